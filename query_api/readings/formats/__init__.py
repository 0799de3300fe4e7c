"""Formats of readings.

`format.py`: the record of a format. `text.py`: CSV, NDJSON. `tables.py`: Arrow, Parquet. `negotiation.py` lists the
formats and chooses one; `suffixes.py` takes it from a path. `exports.py` streams one. `ranges.py` serves ranges.
`permits.py`: the place and the credential of a download.
"""
