-- Blocks that a read has found damaged (ADR 41). The worker checks them before others, and deletes the row afterwards.
CREATE TABLE suspected_blocks (
    device_id bigint NOT NULL,
    level     smallint NOT NULL,
    first     timestamptz NOT NULL,
    CONSTRAINT suspected_blocks_one_each PRIMARY KEY (device_id, level, first)
);
