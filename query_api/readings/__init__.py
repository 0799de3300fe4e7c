"""Readings, in and out.

In: `submit.py` takes them, `intake.py` gives them their times, `gathering.py` stores what comes at one time together.

Out, as `record.py` has them: `listing.py` in pages, or with `exports.py` as one stream of one COPY (`copying.py`), in
the formats of `formats.py`, of which `tables.py` makes Arrow and Parquet; `series.py` for plots, downsampled by
`downsampling.py`; `buckets.py` for reports, by the calendar of `intervals.py`.
"""
