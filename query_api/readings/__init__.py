"""Readings over HTTP: storing and reading.

Storing: `submit.py` is the handler, `intake.py` sets their times, `waiting.py` queues the requests, and
`write_batcher.py` stores those of many requests together.

Reading, as a `record.py`: `listing.py` in pages or, with `formats/`, as one stream; `plots/` for plots; `buckets.py` by
calendar intervals; `summaries.py` for the list of devices; `live/` as events while they are stored. `row_stream.py`
reads the rows of streams and plots.
"""
