"""Several ingestors on one subscription: `processes.py` divides the work, `leaving.py` drains a process that was
removed.
"""
