"""Order statistics of many sorted runs of values, of which few values are read.

1. `runs.py` has the runs and their known values, and what these say about ranks.
2. `narrowing.py` finds the slices that must be read, and the order statistics in them.
3. `deviations.py` mirrors runs at a value, for order statistics of absolute deviations from it.
"""
