"""The query API and the worker: what analysts and tools talk to.

One request, `POST /stats`:

1. `app.py` has wired the routes; `http_metrics.py` stands around them and counts, and `head.py` around that lets
   HEAD be answered as GET.
2. `bodies.py` decodes the body, strictly, into the record that the handler takes (`intake.NewReading`).
3. `stats.py` takes a connection from the pool (`state.py`) and hands the readings on.
4. `intake.py` gives them their times (`times.py`), looks for their devices, and has `shared/readings.py` store
   all of them or none.
5. `stats.py` answers with what is stored. Whatever was refused on the way left as `problems.Refused`, and
   `failures.py` makes its answer, as of any other exception (`parameters.py` finds the words for a parameter).

What is read: `devices.py`, `stats.py`, `analysis.py` and their like hold each handler with its SQL; `paging.py`
makes pages by keyset; `exports.py` streams. `docs.py` serves the OpenAPI document.

One queued analysis:

1. `analysis_requests.py` writes a row of `analysis_requests` and a NOTIFY, and answers 202.
2. A worker takes it: `worker/` is a tour of its own.
3. `analysis_results.py` shows the result.
"""
