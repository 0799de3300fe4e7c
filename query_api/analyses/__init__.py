"""Analyses: `at_once.py` answers with one, `requests.py` queues it, `results.py` shows what came of it.

`figures.py` reads what is asked for besides the five; `records.py` is a request and its result as they are shown;
`prefer.py` and `waiting.py` let a client wait for it; `addresses.py` says where a callback may go. The worker's part is
`query_api/worker`.
"""
