"""The state of every process, in the table process_status (ADR 48).

1. A process names itself (`process.py`), and collects its `figures.py` from its metrics: `samples.py` reads them, and
   `window.py` makes rates and quantiles of the last minute.
2. `reporting.py` writes its row every few seconds, and removes it when the process stops.
3. `table.py` reads the rows of all processes, with what each is: running, late, gone or replaced.
4. `judging.py` makes `findings.py` of them, and `database.py` of the database, for `devicestat doctor` and the API.
   `broker.py` reads and judges the figures that the broker publishes. `words.py` has ages and numbers in words.
"""
