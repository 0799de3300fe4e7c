"""Responses.

`problems.py` has every error response. `head.py` responds to HEAD, `vary.py` sets Vary, `compression.py` compresses
JSON, `operations.py` documents responses. `sources.py` says where the readings of an analysis came from.
"""
