-- store_readings as 0005 has it, but for its look-ups. As joins, they were planned in the first five executions of each
-- connection as hash joins, over all devices and over every month of readings: 10,000 readings that were there already took
-- seconds. A scalar subquery that depends on the row is never planned as a join: it takes its row from the index.
--
-- first, last: the months that the call is about. A plan made with their values looks at no other, and locks no other.
CREATE OR REPLACE FUNCTION store_readings(
    request integer[], device bigint[], recorded timestamptz[], received timestamptz[],
    xs float8[], ys float8[], zs float8[], OUT ids bigint[], OUT added bigint[])
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    unknown bigint[];
    refused integer[];
    first timestamptz;
    last timestamptz;
BEGIN
    PERFORM pass_deletion_fence();
    SELECT array_agg(named.id) INTO unknown FROM (SELECT DISTINCT unnest(device)) AS named (id)
    WHERE (SELECT known.id FROM devices AS known WHERE known.id = named.id) IS NULL;
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
        SELECT min(moment), max(moment) INTO first, last FROM unnest(recorded) AS moment;
        SELECT array_agg(CASE WHEN given.id IS NOT NULL THEN (
                   SELECT earlier.id FROM readings AS earlier
                   WHERE earlier.device_id = given.device_id AND earlier.recorded_at = given.recorded_at
                     AND earlier.recorded_at BETWEEN first AND last
                     AND earlier.x = given.x AND earlier.y = given.y AND earlier.z = given.z
               ) END ORDER BY position) INTO ids
        FROM unnest(ids, device, recorded, xs, ys, zs)
             WITH ORDINALITY AS given (id, device_id, recorded_at, x, y, z, position);
    END IF;
END $$;
