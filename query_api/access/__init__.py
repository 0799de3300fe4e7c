"""Authentication and authorization, without the web framework.

- `rules.py`: principals, and the roles that each kind of route allows.
- `shown.py`: the credential that a request shows; `pages.py`: the page that it is from.
- `keyring.py` finds the principal of a key, a token or a session; `holding.py` checks many together.
- `confirming.py` ends live streams and downloads whose credential is not valid any more.
- `sessions.py`: signs in and out.

`query_api/web/gate.py` applies them to each request.
"""
