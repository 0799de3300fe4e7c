"""The cleaning round deletes rows that are past their retention.

- `rounds.py` runs the round: a step of each cleaner in turn, until no cleaner deletes any more.
- `tables.py` lists the cleaners, and the retention of every table of the schema.
- `expiring.py` has the cleaners of tables whose rows the worker may not delete.
- Each other file has the cleaner of one table. A new cleaner is a function `cleaner(settings)` in a new file, and an
  entry in `tables.py`.
"""
