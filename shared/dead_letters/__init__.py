"""Dead letters: selection, reading, deletion and replay, for the command and the API (ADR 26, 45).

- `selection.py`: conditions on dead letters.
- `letters.py`: lists, counts, reads and deletes them.
- `bitmap.py`: which elements of an array were refused.
- `replaying.py`: the outcome of a replay, and what only the ingestor can do.

`shared/readings/dead_letters.py` writes them, in the transaction of their message.
"""
