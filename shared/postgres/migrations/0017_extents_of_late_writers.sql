-- Finds the extents of one month's readings, as find_device_extents does for all months: the worker calls it for each
-- month while services of the version before may still store readings (ADR 28). Returns how many it has made or widened.
-- A transaction each, in the order of the devices: nobody waits for it, and it waits for nobody who waits for it.
CREATE FUNCTION find_extents_of_month(month text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    starts  timestamptz;
    widened bigint;
BEGIN
    IF month !~ '^readings_[0-9]{4}_[0-9]{2}$' THEN
        RAISE EXCEPTION '% is no month of readings', quote_literal(month) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    starts := to_date(right(month, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC';
    EXECUTE format($month$
        WITH RECURSIVE found (id) AS (
            SELECT min(device_id) FROM %1$I
            UNION ALL
            SELECT (SELECT min(device_id) FROM %1$I WHERE device_id > found.id) FROM found WHERE id IS NOT NULL
        )
        INSERT INTO device_extents (device_id, starts_at, ends_at)
        SELECT id, $1, $2 FROM found
        WHERE id IS NOT NULL AND NOT EXISTS (SELECT FROM device_extents AS had WHERE had.device_id = found.id
                                             AND had.starts_at <= $1 AND had.ends_at >= $2)
        ORDER BY id
        ON CONFLICT (device_id) DO UPDATE
        SET starts_at = least(device_extents.starts_at, excluded.starts_at),
            ends_at = greatest(device_extents.ends_at, excluded.ends_at)
        $month$, month) USING starts, (starts AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
    GET DIAGNOSTICS widened = ROW_COUNT;
    RETURN widened;
EXCEPTION WHEN undefined_table THEN  -- it was dropped meanwhile
    RETURN 0;
END $$;

REVOKE EXECUTE ON FUNCTION find_extents_of_month(text) FROM PUBLIC;

-- As in 0009: pg_temp last, and nothing but this schema.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION find_extents_of_month(text) SET search_path = %I, pg_temp', current_schema());
END $$;
