"""Authentication and authorization, without HTTP.

`rules.py`: principals, and the roles that each kind of route allows. `keyring.py` finds the principal of a key or
token; `holding.py` checks many together for live streams. `query_api/web/gate.py` applies both to each request.
"""
