"""`devicestat dead-letters`: `display.py` shows dead letters; `replay.py` processes them again."""
