"""Maintenance of the database.

`partitions.py` creates the months of readings and drops old ones; `removal.py` removes the readings of deleted devices;
`late_extents.py` widens extents after an upgrade; `moved_clock.py` repairs times that a wrong clock has set.
`scrub.py` checks blocks of readings at random. `activity.py` keeps the states of devices. `duty.py` limits sealing,
scrubbing and states to a share of the time and to one worker each.
"""
