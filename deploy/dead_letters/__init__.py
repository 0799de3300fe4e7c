"""`devicestat dead-letters`: `selection.py` selects, shows and deletes; `replay.py` processes dead letters again."""
