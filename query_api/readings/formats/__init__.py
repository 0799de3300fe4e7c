"""Formats of exported readings.

`negotiation.py` chooses the format; `exports.py` streams it from one COPY, which `copying.py` reads; `tables.py` makes
Arrow and Parquet; `ranges.py` answers range requests; `pace.py` ends a stream that is read too slowly.
"""
