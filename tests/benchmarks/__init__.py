"""`make bench`: each figure is a ratio to a peer in the same run, the median of alternating pairs.

- `ingestion`: QoS 1 messages to committed rows, with one reading or a hundred, against `mosquitto_sub | psql COPY`.
  `generator` publishes the messages, which it encodes in advance.
- `delay`: from a PUBLISH to a visible row, against `mosquitto_sub | psql INSERT`. `paced` publishes.
- `memory`: the ingestor's peak with a million messages that wait while the database is down.
- `store`: a batch directly into the table, against the staging table.
- `analysis`: five figures of a million readings, against plain SQL aggregates, and over HTTP.
- `small_analyses`: a thousand readings, against a scan by SQL aggregates.
- `many_devices`: the analysis of a thousand devices.
- `queue`: queued analyses a second of one worker, and the wait of a person's request behind those of schedules.
- `http`: requests a second of one process, for `POST /stats` and the analysis of a thousand readings, against the same
  endpoints in FastAPI and SQLAlchemy, `plain_service`. `http_load` sends the requests, and `http_data` has the data.
- `cluster`: a database that is distributed over a Citus cluster, against a plain one on its coordinator. Only if named.
- `exports`: all readings of a device in each format, against `psql COPY`.

`servers` runs the servers and `peers` the peers. `pairs` alternates them, `disk` measures the disk, and `machine` and
`table` print. docs/benchmarks.md explains the results.
"""
