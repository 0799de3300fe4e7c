"""Formats of readings.

`format.py`: what a format is. `text.py`: CSV, NDJSON. `tables.py`: Arrow, Parquet. `negotiation.py` lists the formats
and chooses one; `suffixes.py` takes it from a path. `exports.py` streams one COPY.
`ranges.py` answers range requests.
"""
