"""A batch becomes rows, in one transaction.

`writer.py` retries until the batch is stored, over the `database_connection.py`. `store.py` runs the transaction;
`isolate.py` finds the rows that the database refuses, and `sampling.py` bounds the dead letters of a minute.
"""
