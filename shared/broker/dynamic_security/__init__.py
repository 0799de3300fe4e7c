"""Mosquitto's dynamic security: clients and roles of the broker, kept equal to the database (ADR 23).

- `administration.py` sends commands over `$CONTROL/dynamic-security/v1`; `records.py` has the records of its protocol.
- `permissions.py` has the client and the role of a device, and the roles of the ingestor and the administrator.
- `differences.py` compares a device's client and role with the database. Pure.
- `devices.py` reconciles some devices; `sync.py` reconciles the whole broker.
"""
