"""`devicestat ingest --processes N`: `processes.py` starts the ingestors, `telemetry.py` merges their health and
metrics.
"""
