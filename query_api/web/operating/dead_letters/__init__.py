"""Routes of dead letters, for admins (ADR 45).

- `routes.py`: the router.
- `records.py`: dead letters in responses; `selecting.py`: conditions in requests.
- `listing.py`: list, and get one; `counts.py`: numbers by reason over time; `totals.py`: the number of those selected.
- `replays.py` processes them again, with `outcomes.py`; `purges.py` deletes them.
"""
