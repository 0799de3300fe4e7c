"""The session with the broker, over any number of network connections.

- `session.py` connects, subscribes and reconnects. It uses `connecting.py`, `connection.py` and `keep_alive.py`.
- `packets.py` and `publish.py` turn bytes into packets.
- `subscribing.py` exchanges SUBSCRIBE and UNSUBSCRIBE, with packet ids of `requests.py`; `subscriptions.py` remembers
  the topic filters; `subscription_check.py` finds a subscription that delivers nothing, with a `probe.py`.
- `limits.py`: the limits in CONNACK. `reasons.py`: reason codes in words. `ending.py`, `contention.py`: why a
  connection ended, and whether another client uses the client id.
"""
