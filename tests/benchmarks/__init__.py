"""`make bench`: each figure is a ratio against a peer in the same run, the median of alternating pairs.

- `ingestion`: QoS 1 messages to committed rows, one reading each or a hundred, against `mosquitto_sub | psql COPY`;
  `generator` publishes them, encoded before the clock starts.
- `delay`: from a PUBLISH to the row that others see, against `mosquitto_sub | psql INSERT`; `paced` publishes.
- `memory`: the ingestor's peak with a million messages waiting for a database that is away.
- `store`: a batch directly into the table, compared with the staging table.
- `analysis`: the five figures of a million readings, against the plain SQL aggregates, and over HTTP.
- `http`: `POST /stats` and the analysis of a thousand readings, requests a second of one process, against the same
  two endpoints in FastAPI and SQLAlchemy, `plain_service`; `http_load` asks, `http_data` says about what.

`servers` has the servers that it all runs on, `peers` what we are held against, `pairs` the alternation, `disk` the
disk's own part, `machine` and `table` what is printed. docs/benchmarks.md says how to read it.
"""
