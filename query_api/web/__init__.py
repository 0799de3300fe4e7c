"""Handling that is common to the requests of all routes.

- `gate.py` authenticates; `limits/` bounds rates and slow work; `cross_origin.py` answers CORS.
- `requests/` reads bodies and parameters, and refuses unknown ones.
- `answers/` builds responses and problem details; `failures.py` maps every exception to one.
- `disconnect.py` cancels the query of a client that disconnects.
- `docs/` serves the OpenAPI document; `metrics.py` counts requests.
- `operating/` has the routes of the operator: health and metrics, sessions, keys, the audit log, dead letters.
- `dependencies.py` has the parameters of many handlers; `resource.py` is a router for one resource.
"""
