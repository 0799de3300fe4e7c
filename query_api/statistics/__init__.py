"""Statistics of readings, without HTTP: `figures.py` names them, `analysis.py` computes them in PostgreSQL."""
