-- blocks_unmerged with the count: blocks of many devices are counted without reading the blocks, each of which has a page.
-- The lock of CREATE INDEX waits for no reader. 0029 drops the earlier index, which waits for them, and so has no work to
-- repeat (shared/postgres/patience.py).
CREATE INDEX blocks_counted ON blocks (device_id, first) INCLUDE (count) WHERE NOT merged;
