"""Recurring analyses: `handlers.py` manages schedules, with the fields of `fields.py`. `timing.py` reads when a
schedule is due (`query_api/calendar`). `query_api/worker/ticks.py` queues the requests of due ticks.
"""
