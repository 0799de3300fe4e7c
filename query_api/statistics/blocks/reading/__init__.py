"""Reading of exact statistics, from blocks and from readings that no block contains, in one snapshot.

1. `snapshot.py` begins the transaction; `items.py` has the devices and periods. On a Citus cluster, `shards.py` divides
   them by their shards, for statements that Citus does not take for several shards.
2. `cover.py` finds the blocks of each period: those inside of it, and those at its ends.
3. `ends.py` reads the readings of the blocks at the ends; `tail.py` reads the rows that are not sealed, by `pieces.py`.
4. `gathered.py` adds them up, and makes runs of them (`query_api/statistics/blocks/selection/runs.py`).
5. `slices.py` reads guides and values, from which `order_statistics.py` finds order statistics.
6. `first_and_last.py` reads the ends of each period; `statistics.py` puts the steps together.

`curves/` reads what a series needs.
"""
