"""`make bench`: each figure is a ratio against a peer in the same run, the median of alternating pairs.

- `ingestion`: QoS 1 messages to committed rows, against `mosquitto_sub | psql COPY`.
- `delay`: from a PUBLISH to the row that others see.
- `analysis`: the five figures of a million readings, against the plain SQL aggregates, and over HTTP.
- `generator`: the publisher, whose messages are encoded before the clock starts.
"""
