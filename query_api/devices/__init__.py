"""Devices: `handlers.py` lists, shows and renames them, as the `record.py` has them; `registration.py` registers them.

`readings.py` finds what they have measured, in short; `deletion.py` removes one with all it has.
"""
