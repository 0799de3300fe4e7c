"""Who may do what over HTTP.

`rules.py` says which roles each kind of route is for; each route names its kind (`access=…`), and the application does
not start with one that doesn't. `gate.py` stands before every route: it takes the `Authorization` header, has
`keyring.py` find whose it is, and lets pass or refuses. What it found is a `principal.py`, which handlers find as
`request.auth`, and which the audit names.
"""
