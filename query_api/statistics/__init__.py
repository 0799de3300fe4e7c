"""Statistics of readings, without HTTP.

`figures.py` names them, `analysis.py` computes them; `histogram.py` counts values in bins, by the places that
`counting.py` finds; `source.py` says where the readings come from: `blocks/` has the sealed ones.
"""
