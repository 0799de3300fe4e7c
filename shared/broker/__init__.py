"""MQTT connections, and the devices' permissions on the broker.

A device is registered or deleted, or its token is rotated:

1. `outbox.py` adds a row in the same transaction. The API and the worker take rows, one process at a time.
2. `reconciliation.py` is the interface of the two ways to apply a row. Both use `device_credentials.py`:
   - `dynamic_security/` sends commands to Mosquitto's plugin (ADR 23);
   - `by_file.py` writes the `password_file.py` of BROKER_PASSWORDS, and waits until the broker has read it (ADR 37).

`client.py` is an MQTT client, with the TLS of `tls.py`. `names.py` has the names on the broker, and the keys that no
device may have. `data_directory.py` reads the size and age of the broker's files.
"""
