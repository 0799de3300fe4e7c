"""Decoding of requests.

`bodies.py` decodes a body into a record; `wrong_bodies.py` says what is wrong in it; `strict_records.py` documents it
in the OpenAPI document; `nearest.py` suggests a valid name for an unknown one. `parameters.py`, `times.py`,
`paging.py` and `device_ids.py` read parameters, and `known_parameters.py` refuses unknown ones.
"""
