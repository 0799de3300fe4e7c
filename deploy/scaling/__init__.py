"""`devicestat ingest --processes N`: `processes.py` starts the ingestors, and `telemetry.py` combines their
health and metrics.
"""
