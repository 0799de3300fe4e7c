"""What every request passes, independent of its route.

- `gate.py` authenticates; `limits/` bounds rates and slow work; `cross_origin.py` answers CORS.
- `requests/` reads bodies and parameters; `known_parameters.py` refuses unknown ones; `suffixes.py` maps `.csv`.
- `answers/` builds responses and problem details; `disconnect.py` cancels the query of a client that went away.
- `docs/` serves the OpenAPI document; `operation.py` serves health and metrics; `metrics.py` counts requests.
- `resource.py` and `state.py` are for handlers; `notifications.py` waits for notifications of the database.
"""
