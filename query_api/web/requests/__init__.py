"""Reads requests.

`bodies.py` decodes a body into a record; `strict_records.py` says so in the OpenAPI document; `nearest.py` suggests the
name that was meant. `parameters.py`, `times.py` and `paging.py` read parameters, and
`known_parameters.py` refuses others.
"""
