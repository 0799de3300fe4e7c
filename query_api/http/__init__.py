"""What every request meets, whatever it asks for.

On the way in: `metrics.py` counts it and `head.py` lets HEAD be answered as GET, both around the whole application;
`rate_limit.py` refuses what is too much of one caller (`callers.py`), `cross_origin.py` says which pages may ask;
`bodies.py` decodes its body, `times.py`, `zones.py` and `paging.py` its parameters. On the way out: `problems.py` holds
every error that a client can get, `failures.py` makes one of any exception, `parameters.py` has the words for a
parameter. `disconnect.py` ends the query of a client that has gone; `notifications.py` hears for all who wait what the
database says. `docs.py` makes the OpenAPI document, of which `fields.py`, `resource.py` and `strict_records.py` are a
part, and `docs_page.py` its page; `state.py` is what handlers are given.
"""
