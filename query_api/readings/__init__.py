"""Readings, in and out.

In: `submit.py` takes them, `intake.py` sets their times, `gathering.py` stores them together, `waiting.py` bounds them.

Out, as a `record.py`: `listing.py` in pages or, with `formats/`, as one stream; `series.py` for plots, downsampled by
`downsampling.py`; `buckets.py` by calendar intervals.
"""
