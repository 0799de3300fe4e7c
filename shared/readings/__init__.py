"""Readings, from the values of a message to rows of a partitioned table.

- `model.py`: the records; `rows.py`: many readings, packed.
- `rules.py`: the values and the times that a reading may have.
- `clock.py`: unique times of receipt.
- `partitions.py`, `extents.py`: the months of readings.
- `store.py` writes readings, by `binary_copy.py`; `announce.py` notifies live streams.
- `announcements.py`: the times up to which readings are sealed.
- `deletions.py`: deleted devices. `dead_letters.py`: refused messages.
"""
