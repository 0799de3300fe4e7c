"""Sealed blocks: exact statistics of any number of readings, of which only few are read (ADR 41).

A block holds some thousand to some million readings of one device: in columns, and the values of each axis sorted.

1. `layout.py` defines the sizes; `cutting.py` decides where blocks end; `building.py` sorts and adds up (`exact.py`).
2. `tables.py` stores blocks, in few bytes a value (`coding.py`); `packed.py` reads rows. `sealing/` is the work of the
   worker on them.
3. `computing.py` runs large computations in a thread.
4. `selection/` finds order statistics of many blocks by few of their values.
5. `reading/` puts blocks and unsealed readings together, in one snapshot. It fails if it needs a damaged block
   (`damage.py`).
6. `checking/` compares blocks with the readings that they are built of, and mends them.
"""
