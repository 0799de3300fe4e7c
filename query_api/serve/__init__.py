"""The process of `devicestat serve`.

`app.py` wires the routes and their dependencies, and serves them. `pools.py` opens the database connections, `probe.py`
checks the database, `status.py` makes the figures that the process reports, `tuning.py` has the bounds and timeouts.
"""
