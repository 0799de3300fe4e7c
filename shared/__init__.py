"""Code that the ingestor, the query API and the worker share.

- `settings/`: reads and validates the settings, before any I/O.
- `postgres/`: connections, migrations and roles.
- `readings/`: the rules of a reading, and the only code that stores it.
- `dead_letters/`: selects, shows, deletes and replays what was refused.
- `access/`: keys of people and tools, tokens of devices, the audit log.
- `broker/`: MQTT connections, and the devices' permissions on the broker.
- `serving/`: the HTTP port, health, metrics and logs of a service.
- `status/`: the state of every process, in a table, and what it shows to be wrong.
- `event_loop/`: keeps the event loop free.
- `errors.py`: the tree of errors; each error suggests a remedy. `backoff.py`: delays between retries.
- `encodings.py`: encodings of text that is not UTF-8.
- `json_arrays.py`: the length of a JSON array.
"""
