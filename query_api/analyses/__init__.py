"""Analyses of readings.

`immediate.py` returns an analysis; `requests.py` queues one, and `prefer.py` lets the client wait for it; `results.py`
returns results, and `wanted.py` parses the requested figures. `schedules/` has the recurring analyses. `histogram.py`
returns a histogram.
`query_api/statistics` computes.
"""
