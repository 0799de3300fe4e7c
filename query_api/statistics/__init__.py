"""Statistics of readings, without HTTP.

`figures.py` names them, `analysis.py` computes them; `blocks/` has the sealed readings that they come from.
"""
