"""The query API and the worker: what analysts and tools talk to.

One request, `POST /stats`:

1. `app.py` has wired the routes. What every request meets is in `http/`: it is counted, and its body decoded, strictly,
   into the record that the handler takes (`readings/intake.py`, `NewReading`). `access/` has let it in before that.
2. `readings/submit.py` hands the readings to `readings/intake.py`, which gives them their times and has
   `shared/readings.py` store what came at one time together: of each request all of them or none.
3. `readings/submit.py` answers with what is stored. Whatever was refused on the way left as `http/problems.py`'s
   `Refused`, and `http/failures.py` makes its answer, as of any other exception.

`devices/` is what is registered, `readings/` what was measured, `live/` what comes, `analyses/` the figures.

One queued analysis:

1. `analyses/requests.py` writes a row of `analysis_requests` and a NOTIFY, and answers 202; `schedules/` has it written
   again and again.
2. A worker takes it: `worker/`.
3. `analyses/waiting.py` hears of its end, if the client waits; `analyses/results.py` shows the result.
"""
