"""What keeps the event loop of a service free.

- `parts.py`: long computations in parts, between which other requests are served.
- `garbage.py`: short garbage collections.
"""
