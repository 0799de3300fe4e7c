"""Devices.

`handlers.py` shows, renames and deletes them, `registration.py` registers them, and `rotation.py` rotates a token.
`listing.py` lists them: `search.py` finds them by a part of their name or key, `ordering.py` in the order of their
activity, and `counting.py` counts them. `activity.py` has their states. `record.py` has their records, `keys.py` the
keys that a device may have and their topics, and `tokens.py` creates tokens. `mqtt/` decides for brokers which devices
may connect, publish and subscribe.
"""
