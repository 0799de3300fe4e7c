"""What the ingestor, the query API and the worker have in common.

- `settings` reads and validates the environment and the configuration file, before any I/O.
- `errors` is the tree of what can go wrong; each error says what to do.
- `models` are the records that cross between the parts.
- `database` opens connections and pools, and translates the driver's errors.
- `migrate` brings the schema up to date from `migrations/*.sql`, and holds it against this version.
- `readings` is the one place that stores a reading.
- `analysis` is the one place that analyses readings.
- `telemetry` is logging, metrics and health.
"""
