"""Storing batches.

`writer.py` stores a batch in one transaction. `database_connection.py` retries it until the database responds.
`isolate.py` finds the rows that the database refuses. `sampling.py` limits the dead letters of each minute.
"""
