"""Recurring analyses: `handlers.py` manages schedules, with the fields of `fields.py`. `timing.py` reads when a
schedule is due (`query_api/calendar`), and `preview.py` shows it before the schedule is created. `ticks.py` lists past
ticks with their results. `routes.py` has the router. `query_api/worker/ticks.py` queues the requests of due ticks.
"""
