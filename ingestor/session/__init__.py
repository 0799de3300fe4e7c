"""The session with the broker, which outlives its network connections.

- `session.py` connects, subscribes and reconnects.
- `subscribing.py` exchanges SUBSCRIBE and UNSUBSCRIBE; `subscriptions.py` stores the topic filters.
- `subscription_check.py` detects a subscription that delivers nothing; `probe.py` sends its probes.
- `limits.py` logs the limits in CONNACK. `contention.py` detects another client with the same client id.
- `processes.py` names the sessions of several ingestors.
- `broker_disk.py` measures the broker's disk; `broker_figures.py` reads the figures that the broker publishes.
"""
