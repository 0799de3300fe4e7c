-- The extent of a device: the months (UTC) between which all of its readings lie (ADR 28). A read without a period is
-- bounded by it, and so neither plans nor locks the other months. An extent that is too wide costs a little; one that is
-- too narrow hides readings: it is widened before the readings are committed, and never narrowed. A device without a row
-- has no known extent, and its reads look into every month.
CREATE TABLE device_extents (
    device_id bigint NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at   timestamptz NOT NULL,
    CONSTRAINT device_extents_one_each PRIMARY KEY (device_id),
    CONSTRAINT device_extents_are_not_empty CHECK (starts_at < ends_at)
);

-- Finds the extents of all readings that are there: for those from before this table, and for those that were written by
-- other means than our services. Each month is read alone, from device to device by its index, under no lock that a reader
-- or a writer would wait for.
--
-- A device of which the last month is recent is given until the end of the next one: a service of the version before,
-- which is still running, may store readings in it and does not widen the extent.
CREATE FUNCTION find_device_extents() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    month  record;
    starts timestamptz;
    ends   timestamptz;
    coming timestamptz := date_trunc('month', now(), 'UTC') + interval '2 months';
BEGIN
    FOR month IN
        SELECT inhrelid::regclass AS partition, relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'readings'::regclass AND NOT inhdetachpending ORDER BY relname
    LOOP
        starts := to_date(right(month.relname, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC';
        ends := (starts AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
        IF ends >= coming - interval '2 months' THEN
            ends := greatest(ends, coming);
        END IF;
        EXECUTE format($month$
            WITH RECURSIVE found (id) AS (
                SELECT min(device_id) FROM %1$s
                UNION ALL
                SELECT (SELECT min(device_id) FROM %1$s WHERE device_id > found.id) FROM found WHERE id IS NOT NULL
            )
            INSERT INTO device_extents (device_id, starts_at, ends_at) SELECT id, $1, $2 FROM found WHERE id IS NOT NULL
            ON CONFLICT (device_id) DO UPDATE
            SET starts_at = least(device_extents.starts_at, excluded.starts_at),
                ends_at = greatest(device_extents.ends_at, excluded.ends_at)
            $month$, month.partition) USING starts, ends;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION find_device_extents() FROM PUBLIC;

SELECT find_device_extents();
