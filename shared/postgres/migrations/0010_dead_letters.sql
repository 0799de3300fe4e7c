-- A message is one dead letter, however many of its readings were refused (ADR 26).
--
-- payload, payload_bytes: the payload, or its beginning where it is too large, and the length of the whole.
-- readings, reasons:      the number of refused readings, and the same by reason: {"out_of_range": 2}. reason is the most frequent.
-- faults:                 the first few: [{"index": 3, "reason": "out_of_range", "detail": "..."}]; index null: the whole message.
-- refused:                which elements were refused: element n is if bit n % 8 of byte n / 8 is 1. NULL: all of them.
-- step:                   microseconds between the times of receipt of one element and the next, from received_at on.
-- messages, received_until: where received_until is not NULL, the row has no payload: it counts messages, received from received_at
--                         until then, beyond those that are kept in a minute.
-- kept_bytes:             what DEAD_LETTERS_MAX_BYTES counts: about what the row occupies, without compression.
ALTER TABLE dead_letters
    ADD COLUMN payload_bytes  bigint,
    ADD COLUMN readings       bigint NOT NULL DEFAULT 1,
    ADD COLUMN reasons        jsonb,
    ADD COLUMN faults         jsonb,
    ADD COLUMN refused        bytea,
    ADD COLUMN step           integer NOT NULL DEFAULT 2,
    ADD COLUMN messages       bigint NOT NULL DEFAULT 1,
    ADD COLUMN received_until timestamptz;

-- In one pass that leaves no dead rows, as an UPDATE would: each row is one element, or a whole message, as it was kept until now.
ALTER TABLE dead_letters
    ALTER COLUMN payload_bytes TYPE bigint USING octet_length(payload),
    ALTER COLUMN reasons TYPE jsonb USING jsonb_build_object(reason, 1),
    ALTER COLUMN faults TYPE jsonb
        USING jsonb_build_array(jsonb_build_object('index', NULL, 'reason', reason, 'detail', detail)),
    ADD COLUMN kept_bytes bigint GENERATED ALWAYS AS (
        1000 + octet_length(payload) + octet_length(topic) + coalesce(octet_length(content_type), 0)
        + coalesce(octet_length(refused), 0)) STORED;

ALTER TABLE dead_letters
    ALTER COLUMN payload_bytes SET NOT NULL,
    ALTER COLUMN reasons SET NOT NULL,
    ALTER COLUMN faults SET NOT NULL,
    ADD CONSTRAINT dead_letters_count_what_was_refused CHECK (readings > 0 AND messages > 0),
    ADD CONSTRAINT dead_letters_are_of_one_message CHECK (received_until IS NOT NULL OR messages = 1);

-- By time for lists and for the age, with the size for the bound on all of them. By reason nothing looks any more.
CREATE INDEX dead_letters_by_age ON dead_letters (received_at, id) INCLUDE (kept_bytes);
DROP INDEX dead_letters_by_time, dead_letters_by_reason;
