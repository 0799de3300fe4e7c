"""The query API and the worker.

One request, `POST /stats`:

1. `app.py` has wired the routes. `web/` authenticates the request and decodes its body into a record.
2. `readings/submit.py` passes the readings to `readings/intake.py`, which sets their times and stores them with
   `shared/readings/store.py`: all readings of a request, or none.
3. A refusal is a `Refused` of `web/answers/problems.py`; `web/answers/failures.py` turns any exception into a response.

One queued analysis:

1. `analyses/requests.py`, or a schedule of `schedules/`, adds a row to the `queue/`, and a NOTIFY.
2. A process of `worker/` claims it and computes it with `analyses/analysis.py`.
3. `analyses/results.py` shows the result.

`devices/`: registration. `live/`: readings as server-sent events. `mqtt/`: brokers that ask who may connect.
`calendar/`: cron expressions, intervals, time zones. `access/`: keys and roles. `pools.py`: database connections;
`probe.py`: checks the database.
"""
