"""Devices.

`handlers.py` lists, shows, renames and deletes them, `search.py` finds them by a part of their name or key,
`registration.py` registers them, `rotation.py` rotates a token. `record.py` has their records, `keys.py` the keys that
a device may have, and `tokens.py` creates tokens. `mqtt/` decides for brokers which devices may connect, publish and
subscribe.
"""
