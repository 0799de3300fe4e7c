"""Checks of blocks against the readings that they are built of, and the repair of wrong ones.

1. `stored.py` reads a block as it is stored; `problems.py` describes what is wrong.
2. `comparing.py` compares readings, and blocks with those that are built anew.
3. `parts.py` checks a part of the time of a device against rows: the readings of one block.
4. `merged.py` checks a block of a level above against the blocks below it.
5. `leftovers.py` finds rows that belong to no block of sealed time.
6. `device.py` checks all of a device, or one block, and mends it. `sampling.py` draws a block at random; `suspects.py`
   keeps those that a read has found damaged. `progress.py` checks how far readings are sealed.
"""
