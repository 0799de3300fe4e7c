-- What was refused, whole, with the reason: nothing that reaches the ingestor is thrown away.
CREATE TABLE dead_letters (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at  timestamptz NOT NULL,
    topic        text NOT NULL,
    content_type text,
    payload      bytea NOT NULL,
    reason       text NOT NULL,
    detail       text NOT NULL,
    CONSTRAINT dead_letters_reason_is_known CHECK (reason IN (
        'bad_topic', 'malformed', 'invalid_reading', 'out_of_range', 'bad_timestamp',
        'too_large', 'unknown_device', 'database_refused'))
);
CREATE INDEX dead_letters_by_reason ON dead_letters (reason, received_at);
CREATE INDEX dead_letters_by_time ON dead_letters (received_at);

-- Which packets of a broker session are stored (ADR 3). A row is written by the transaction that stores
-- its batch; batch_no is the fence between two ingestors of one client id: only one of them can be next.
-- packets: six bytes for each, big-endian: packet id (2), CRC-32 of topic and payload (4).
CREATE TABLE ingest_journal (
    client_id    text NOT NULL,
    batch_no     bigint NOT NULL,
    writer       uuid NOT NULL,
    packets      bytea NOT NULL,
    stored       bigint NOT NULL,
    duplicates   bigint NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ingest_journal_is_a_sequence PRIMARY KEY (client_id, batch_no),
    CONSTRAINT ingest_journal_packets_are_whole CHECK (octet_length(packets) % 6 = 0)
);
