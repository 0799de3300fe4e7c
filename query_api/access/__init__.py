"""Roles and principals: who may do what over HTTP.

`rules.py` names the roles for each kind of route. `keyring.py` finds the owner of a key or token (`holding.py` has the
statement); the owner is a `principal.py`. `web/gate.py` applies them to each request.
"""
