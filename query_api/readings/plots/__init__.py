"""Readings for plots: a few points that preserve the shape of the curve.

`series.py` has the route of one device, `several.py` that of one axis of several. `curve.py` reads sealed readings and
rows, `downsampling.py` chooses the points of an axis, and `gaps.py` finds the gaps. `shared_times.py` gives several
axes one column of times.
"""
