"""Analyses of readings.

`immediate.py` answers with an analysis; `requests.py` queues one, and `prefer.py` lets the client wait for it;
`results.py` shows results. `analysis.py` computes, `figures.py` names the figures, `wanted.py` reads which are wanted.
"""
