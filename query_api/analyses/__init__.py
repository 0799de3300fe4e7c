"""Analyses of readings.

`immediate.py` answers with an analysis; `requests.py` queues one, and `prefer.py` lets the client wait for it;
`results.py` shows results, and `wanted.py` reads which figures are wanted. `schedules/` has the recurring analyses.
`query_api/statistics` computes.
"""
