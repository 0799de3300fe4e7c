"""`devicestat dead-letters`: `selection.py` selects, shows and deletes; `replay.py` stores again."""
