"""What the ingestor, the query API and the worker have in common.

- `settings` reads and validates the environment and the configuration file, before any I/O.
- `errors` is the tree of what can go wrong; each error says what to do.
- `models` are the records that cross between the parts.
- `database` opens connections and pools, and translates the driver's errors.
- `session_settings` sets what each connection depends on; `pooler` finds a connection pooler that does not keep it.
- `starting` waits for a database that is not there yet, and checks what it finds.
- `migrate` brings the schema up to date from `migrations/*.sql`, and holds it against this version.
- `readings` is the one place that stores a reading; `rows` holds many of them.
- `analysis` is the one place that analyses readings.
- `telemetry` is logging, metrics and health.
"""
