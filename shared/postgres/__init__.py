"""PostgreSQL connections, schema and roles.

- `connections.py` opens connections and pools; `errors.py` translates the errors of the driver.
- `session_settings.py` sets the settings that the code depends on; `pooler.py` detects a connection pooler that drops
  them.
- `listening.py` listens for NOTIFY, and reconnects when the connection is lost.
- `starting.py` waits for a database at startup and checks it.
- `migrate.py` applies `migrations/*.sql`; `roles.py` applies `privileges/*.sql`.
- `distribution.py` distributes readings over the nodes of a Citus cluster.
- `patience.py` retries such a change of the schema while services run.
- `arrays.py` converts numpy arrays to parameters and from results.
- `storable.py` replaces text that PostgreSQL cannot store.
"""
