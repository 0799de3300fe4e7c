"""The query API and the worker.

One request, `POST /stats`:

1. `serve/` has wired the routes. `web/` authenticates the request and decodes its body into a record.
2. `readings/submit.py` passes the readings to `readings/intake.py`, which sets their times and stores them with
   `shared/readings/store.py`: all readings of a request, or none.
3. A handler refuses with a `Refused` of `web/answers/problems.py`. `web/failures.py` maps every exception to a
   problem, including those of `errors.py`, which do not depend on HTTP.

One queued analysis:

1. `analyses/requests.py`, or a tick of `analyses/schedules/`, adds a request to the `queue/`, which notifies the
   workers.
2. A process of `worker/` claims it and computes it with `statistics/analysis.py`.
3. `analyses/results.py` returns the result.

`devices/`: registration, and authentication for brokers. `readings/`: storing, lists, series, exports, live streams.
`analyses/`: immediate, queued and recurring analyses, computed by `statistics/`. `calendar/`: periods, cron
expressions, time zones. `access/`: keys and roles. `dashboard/`: the page for browsers. `ids.py`: ids.

From `serve/` and `worker/` at the top to `errors.py` at the bottom, a package imports only packages below it. The
queue, the worker and everything below the queue do not import Litestar (pyproject.toml, import-linter).
"""
