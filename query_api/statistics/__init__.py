"""Statistics of readings, without HTTP.

`figures.py` names them, `analysis.py` computes them; `source.py` says where their readings come from:
`blocks/` has the sealed ones.
"""
