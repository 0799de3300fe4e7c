"""Sealing: the work of the worker on blocks.

1. `announcing.py` announces up to which time readings will be sealed, and waits for writers that do not know it.
2. `sealing.py` builds blocks of readings; `sealed_device.py` is its transaction.
3. `merging.py` merges blocks into those of the level above.
4. `settling.py` rebuilds the blocks of late readings.
5. `retiring.py` deletes the blocks of a device, or of a month.
"""
