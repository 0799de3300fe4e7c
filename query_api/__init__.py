"""The query API and the worker: what analysts and tools talk to.

One request, `POST /stats`:

1. `app.py` has wired the routes; `http_metrics.py` stands around them and counts, and `head.py` around that lets
   HEAD be answered as GET.
2. `bodies.py` decodes the body, strictly, into the record that the handler takes (`intake.NewReading`).
3. `stats.py` hands the readings to `intake.py`, which gives them their times (`times.py`) and has
   `shared/readings.py` store what came at one time together: of each request all of them or none.
4. `stats.py` answers with what is stored. Whatever was refused on the way left as `problems.Refused`, and
   `failures.py` makes its answer, as of any other exception (`parameters.py` finds the words for a parameter).

What is read: `readings.py` lists, and `paging.py` makes pages by keyset; `exports.py` streams one COPY in the formats
of `formats.py`, `tables.py` makes Arrow and Parquet of it; `series.py` and `buckets.py` are for plots and reports,
`live.py` for what comes. `analysis.py` answers at once; `disconnect.py` ends its query when the client goes away.
`devices.py` holds what is registered, `docs.py` serves the OpenAPI document.

One queued analysis:

1. `analysis_requests.py` writes a row of `analysis_requests` and a NOTIFY, and answers 202; `schedules.py` has it
   written again and again.
2. A worker takes it: `worker/` is a tour of its own.
3. `waiting.py` hears of its end, if the client waits (`prefer.py`); `analysis_results.py` shows the result.
"""
