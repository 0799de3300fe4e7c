"""Readings, from the values of a message to rows of a partitioned table.

- `model.py`: the records; `rows.py`: many readings, packed.
- `rules.py`, `numeric_times.py`: the values and the times that a reading may have; `clock.py`: unique times of receipt.
- `encodings.py`: the text encodings that devices may send.
- `partitions.py`, `extents.py`: the months of readings; `store.py` writes them in the format of `binary_copy.py`; `announce.py` notifies live streams.
- `deletions.py`: deleted devices. `dead_letters.py`, `bitmap.py`: refused messages.
"""
