"""Responses.

`problems.py` has every error response. `head.py` responds to HEAD, `vary.py` sets Vary, `operations.py` documents
responses. `sources.py` says where the readings of an analysis came from.
"""
