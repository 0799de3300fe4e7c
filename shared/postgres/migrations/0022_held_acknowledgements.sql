-- held: the number of packets, at the end of this entry and those before it, that are not acknowledged before the next
-- entry is written. in_sequence: whether the broker allocates packet ids in sequence; NULL while that is not known (ADR 34).
ALTER TABLE ingest_journal
    ADD COLUMN held smallint NOT NULL DEFAULT 0,
    ADD COLUMN in_sequence boolean;
