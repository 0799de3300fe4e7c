"""The state of all processes, of the database and of the queue: `GET /status` (ADR 48).

1. `handlers.py` has the route, and leaves out what only an admin may see.
2. `picture.py` keeps what was read. `reading.py` reads the cheap part, and `examining.py` what takes longer.
3. `composing.py` composes the response of both, with the `brokers.py` of the ingestors. `records.py` has its records.
"""
