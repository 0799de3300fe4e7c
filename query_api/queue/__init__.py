"""The queue of analyses, in the database.

1. `requests.py` queues a request within the `quotas.py`, and notifies the workers (`channels.py`).
2. `claiming.py`: a worker claims it, in the turns of people, schedules and devices.
3. `claims.py`: the worker renews its lease and ends it. `results.py` has the result.
4. `waiting.py` waits for the end of a request. `callbacks.py` has the callbacks that are due (`addresses.py`).

`records.py`: requests and results as clients see them. `counts.py`: their number by status. `pending.py`: how long the
queue waits. `retries.py`: delays after failed attempts.
"""
