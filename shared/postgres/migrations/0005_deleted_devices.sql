-- Devices that were deleted (ADR 16): their readings are removed in the background, and what still comes for them
-- is refused. The rows stay: an ingestor tells by their numbers what was deleted since it last looked.
CREATE TABLE deleted_devices (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id  bigint NOT NULL,
    key        text NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,
    CONSTRAINT deleted_devices_once UNIQUE (device_id)
);
CREATE INDEX deleted_devices_with_readings ON deleted_devices (number) WHERE removed_at IS NULL;

-- The fence. Whoever stores readings passes it first in its transaction; whoever deletes a device closes it for the
-- end of its own. So a reading is either committed before its device is deleted, and removed with it, or its writer
-- knows of the deletion. Each statement of a volatile function sees what was committed when it began: what comes after
-- pass_deletion_fence() sees every deletion that it has waited for.
CREATE FUNCTION pass_deletion_fence() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('devicestat'), hashtext('deletion'));
END $$;

CREATE FUNCTION close_deletion_fence() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('devicestat'), hashtext('deletion'));
END $$;

-- Passes the fence, and tells what was deleted after the number given.
CREATE FUNCTION devices_deleted_since(seen bigint) RETURNS SETOF deleted_devices
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pass_deletion_fence();
    RETURN QUERY SELECT * FROM deleted_devices WHERE number > seen ORDER BY number;
END $$;

-- Stores what several requests bring, in one round trip: of each request all readings or, where one of them names an
-- unknown device, none. ids: of each reading in the order given; that of the earlier one where it was there already,
-- null where its request was refused. added: the ids of those that are new.
CREATE FUNCTION store_readings(
    request integer[], device bigint[], recorded timestamptz[], received timestamptz[],
    xs float8[], ys float8[], zs float8[], OUT ids bigint[], OUT added bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    unknown bigint[];
    refused integer[];
BEGIN
    PERFORM pass_deletion_fence();
    SELECT array_agg(named.id) INTO unknown FROM (SELECT DISTINCT unnest(device)) AS named (id)
    WHERE NOT EXISTS (SELECT FROM devices WHERE devices.id = named.id);
    IF unknown IS NOT NULL THEN
        SELECT array_agg(DISTINCT given.request) INTO refused FROM unnest(request, device) AS given (request, device_id)
        WHERE given.device_id = ANY (unknown);
    END IF;

    SELECT array_agg(CASE WHEN refused IS NULL OR given.request <> ALL (refused)
                          THEN nextval('readings_id_seq') END ORDER BY position)
    INTO ids FROM unnest(request) WITH ORDINALITY AS given (request, position);

    -- In the order of the unique index: of two that do so none can wait for the other.
    WITH stored AS (
        INSERT INTO readings (id, device_id, recorded_at, received_at, x, y, z)
        SELECT * FROM unnest(ids, device, recorded, received, xs, ys, zs)
                      AS given (id, device_id, recorded_at, received_at, x, y, z)
        WHERE id IS NOT NULL
        ORDER BY device_id, recorded_at, x, y, z
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    SELECT coalesce(array_agg(id), '{}') INTO added FROM stored;

    IF cardinality(added) < cardinality(array_remove(ids, NULL)) THEN
        SELECT array_agg(CASE WHEN given.id IS NOT NULL THEN readings.id END ORDER BY position) INTO ids
        FROM unnest(ids, device, recorded, xs, ys, zs)
             WITH ORDINALITY AS given (id, device_id, recorded_at, x, y, z, position)
             LEFT JOIN readings USING (device_id, recorded_at, x, y, z);
    END IF;
END $$;
