"""The queue of analyses, in the database.

`claims.py`: a worker claims, renews and ends a request. `records.py`: requests and results as they are shown.
`waiting.py`: waits for the end of a request. `quotas.py`: bounds for each key. `addresses.py`: callback addresses.
"""
