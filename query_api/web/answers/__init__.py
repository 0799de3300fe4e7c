"""Responses.

`problems.py` has every error response; `failures.py` maps exceptions to them. `head.py` answers HEAD, `vary.py` sets
Vary, `operations.py` documents responses.
"""
