"""The readings of a device that a curve needs: those from which the extremes of spans of time follow.

`strides.py` decides which parts of the blocks must be read; `outline.py` reads them and the extremes of the others,
by `ahead.py`: the next part while one is processed.
"""
