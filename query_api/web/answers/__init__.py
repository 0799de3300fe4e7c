"""Responses.

`problems.py` has every error response. `head.py` answers HEAD, `vary.py` sets Vary, `operations.py` documents
responses.
"""
