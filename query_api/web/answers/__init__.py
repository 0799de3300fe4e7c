"""Builds responses.

`problems.py` has every error response; `failures.py` makes one of any exception. `head.py` answers HEAD, `vary.py` sets
Vary, `json_times.py` writes times, `operations.py` documents responses.
"""
