"""The cleaning round: what deletes rows that are past their retention.

- `rounds.py` runs the round: each cleaner's step in turn, until none finds more.
- `tables.py` lists the cleaners, and says for every table of the schema what bounds it.
- Each other file is the cleaner of one table. To add one: write `cleaner(settings)` in a new file, and list it in
  `tables.py`.
"""
