"""The HTTP side of every long-running process.

- `service.py`: event loop, signals and the HTTP port; `lifeline.py`: the end of the parent process.
- `limits.py`: limits on HTTP connections; `own_hosts.py`: accepted Host headers; `closed.py`: refuses an open port;
  `cutting.py`: cuts a connection.
- `security_headers.py`: headers of every response.
- `telemetry.py`: logs and health; `telemetry_app.py`: the HTTP application of a daemon's health and metrics.
- `schema_health.py`: reports a schema that another version migrated.
- `redaction.py` removes secrets from logs; `asgi.py`: the types of an HTTP application.
"""
