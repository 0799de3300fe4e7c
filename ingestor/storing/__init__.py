"""Storing batches.

`writer.py` stores a batch in one transaction, and retries over the `database_connection.py`. `isolate.py` finds the
rows that the database refuses. `sampling.py` bounds the dead letters of a minute.
"""
