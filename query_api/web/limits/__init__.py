"""Bounds for each caller: `rate_limit.py` by requests in a `window.py`, `turns.py` by slow work; `callers.py` names
the caller.
"""
