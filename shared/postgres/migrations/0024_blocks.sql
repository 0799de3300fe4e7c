-- Sealed blocks of readings, from which analyses take exact figures without reading all readings (ADR 41).
--
-- For each device, each reading older than `sealed` is in exactly one block of level 0 or 1, or in late_readings. All other
-- readings are read from `readings`. The tables are logged: recovery empties unlogged tables, and `sealed` would stay.

-- announced: a writer copies older readings to late_readings. number: rises with each announcement. look_at: when the worker
-- next looks for readings to seal. late_since: when the worker first found late readings that no block contains; null once
-- the blocks with them are merged.
CREATE TABLE sealed_devices (
    device_id  bigint NOT NULL,
    announced  timestamptz NOT NULL DEFAULT '-infinity',
    sealed     timestamptz NOT NULL DEFAULT '-infinity',
    number     bigint NOT NULL DEFAULT 0,
    look_at    timestamptz NOT NULL DEFAULT now(),
    late_since timestamptz,
    CONSTRAINT sealed_devices_one_each PRIMARY KEY (device_id),
    CONSTRAINT sealed_devices_are_announced CHECK (sealed <= announced)
);
CREATE INDEX sealed_devices_by_number ON sealed_devices (number) INCLUDE (device_id, announced);
CREATE INDEX sealed_devices_by_look ON sealed_devices (look_at);
CREATE INDEX sealed_devices_with_late ON sealed_devices (late_since) WHERE late_since IS NOT NULL;
CREATE SEQUENCE sealed_devices_number_seq;

-- Copies of readings that were stored after their time was announced, until a block contains them.
CREATE TABLE late_readings (
    device_id   bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    x           float8 NOT NULL,
    y           float8 NOT NULL,
    z           float8 NOT NULL,
    CONSTRAINT late_readings_are_unique UNIQUE (device_id, recorded_at, x, y, z)
);

-- level 0: the newest readings. 1: about 2^13 readings. 2 and 3: whole blocks of the level below, about 2^18 and 2^23
-- readings; `merged` is true for these. No block has readings of two months (UTC). The sums are exact. marks: values of x, y
-- and z at fixed ranks. times: every 256th time of levels 0 and 1. Both are little-endian, of 8 bytes a value.
CREATE TABLE blocks (
    device_id bigint NOT NULL,
    level     smallint NOT NULL,
    first     timestamptz NOT NULL,
    last      timestamptz NOT NULL,
    count     integer NOT NULL,
    merged    boolean NOT NULL DEFAULT false,
    min_x     float8 NOT NULL, max_x float8 NOT NULL,
    min_y     float8 NOT NULL, max_y float8 NOT NULL,
    min_z     float8 NOT NULL, max_z float8 NOT NULL,
    sum_x     numeric NOT NULL, sum_y numeric NOT NULL, sum_z numeric NOT NULL,
    squares_x numeric NOT NULL, squares_y numeric NOT NULL, squares_z numeric NOT NULL,
    marks     bytea NOT NULL,
    times     bytea,
    CONSTRAINT blocks_one_each PRIMARY KEY (device_id, level, first),
    CONSTRAINT blocks_have_a_level CHECK (level BETWEEN 0 AND 3),
    CONSTRAINT blocks_have_readings CHECK (count > 0 AND first <= last),
    CONSTRAINT blocks_of_readings_have_times CHECK ((times IS NOT NULL) = (level <= 1))
) WITH (toast_tuple_target = 8160);
ALTER TABLE blocks ALTER marks SET STORAGE MAIN, ALTER times SET STORAGE MAIN;
CREATE INDEX blocks_unmerged ON blocks (device_id, first) WHERE NOT merged;

-- The values of an axis (0: x, 1: y, 2: z) in ascending order, and every 128th of them for levels 2 and 3. `sorted` is in
-- frames of 128 values (query_api/statistics/blocks/coding.py): `coding` says how, and each frame has frame_bytes.
CREATE TABLE block_values (
    device_id   bigint NOT NULL,
    level       smallint NOT NULL,
    first       timestamptz NOT NULL,
    axis        smallint NOT NULL,
    coding      smallint NOT NULL,
    frame_bytes smallint NOT NULL,
    sorted      bytea NOT NULL,
    guides      bytea,
    CONSTRAINT block_values_one_each PRIMARY KEY (device_id, level, first, axis)
);
-- The readings of levels 0 and 1 in the order of time, x, y and z. columns: a column (0: times in microseconds since 1970,
-- 1: x, 2: y, 3: z) in frames of 256. 4: the least and the greatest values of each frame.
CREATE TABLE block_columns (
    device_id   bigint NOT NULL,
    level       smallint NOT NULL,
    first       timestamptz NOT NULL,
    axis        smallint NOT NULL,
    coding      smallint NOT NULL,
    frame_bytes smallint NOT NULL,
    columns     bytea NOT NULL,
    CONSTRAINT block_columns_one_each PRIMARY KEY (device_id, level, first, axis)
);
-- Not compressed: PostgreSQL then reads only the pages of the slice that substr() takes.
ALTER TABLE block_values ALTER sorted SET STORAGE EXTERNAL, ALTER guides SET STORAGE EXTERNAL;
ALTER TABLE block_columns ALTER columns SET STORAGE EXTERNAL;

-- The months that retention drops, by their tables. A row is inserted before the month is detached, and deleted with the
-- blocks of the month. Blocks and rows cannot disappear in one transaction: DETACH … CONCURRENTLY commits by itself.
CREATE TABLE retiring_months (
    name text NOT NULL,
    CONSTRAINT retiring_months_one_each PRIMARY KEY (name)
);

-- The months of which a read must not use the blocks, in one row: in its snapshot, their rows are gone. From the first
-- commit of DETACH … CONCURRENTLY on, PostgreSQL hides a month from each snapshot that contains this commit. The scalar
-- subquery is not evaluated while no month is dropped.
CREATE VIEW hidden_months AS
SELECT coalesce(range_agg(tstzrange(to_date(right(name, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC',
                                    (to_date(right(name, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC')), '{}') AS months
FROM retiring_months AS month
WHERE (SELECT coalesce(inhdetachpending, true)
       FROM pg_class LEFT JOIN pg_inherits ON inhrelid = pg_class.oid AND inhparent = 'readings'::regclass
       WHERE relname = month.name
         AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'readings'::regclass));

-- The first statement of a transaction that stores readings. It takes the shared lock of the fence, and then returns what
-- was deleted and announced after the numbers given. announcement: the newest number, null if nothing was announced.
-- A writer that does not know an announcement took the lock before it was committed, and the worker waits for that writer.
-- enable_seqscan: a plan that is made without the numbers expects a third of the rows.
CREATE FUNCTION pass_fence(deleted_seen bigint, announced_seen bigint, OUT deletions bigint[], OUT deleted bigint[],
                           OUT announcement bigint, OUT devices bigint[], OUT announced timestamptz[])
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM pass_deletion_fence();
    SELECT array_agg(known.number ORDER BY known.number), array_agg(known.device_id ORDER BY known.number)
    INTO deletions, deleted FROM deleted_devices AS known WHERE known.number > deleted_seen;
    SELECT max(known.number), array_agg(known.device_id ORDER BY known.device_id),
           array_agg(known.announced ORDER BY known.device_id)
    INTO announcement, devices, announced FROM sealed_devices AS known WHERE known.number > announced_seen;
END $$;

-- An ingestor of an earlier version calls this function first. It would not copy late readings, so it must not store any.
CREATE OR REPLACE FUNCTION devices_deleted_since(seen bigint) RETURNS SETOF deleted_devices
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this ingestor is of an earlier version than the schema, and would store readings that analyses miss'
          USING ERRCODE = 'feature_not_supported', HINT = 'restart it with the version that has migrated the database';
END $$;

-- Stores readings of which some are late, and returns the number of new ones. It runs as its owner: the ingestor may not read
-- readings. All are inserted by one statement in the order of the unique index, as in store_readings: so that no two of
-- their writers can wait for each other.
CREATE FUNCTION store_late_readings(
    device bigint[], recorded timestamptz[], received timestamptz[], xs float8[], ys float8[], zs float8[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    added bigint;
BEGIN
    WITH stored AS (
        INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
        SELECT * FROM unnest(device, recorded, received, xs, ys, zs) AS given (device_id, recorded_at, received_at, x, y, z)
        ORDER BY device_id, recorded_at, x, y, z
        ON CONFLICT DO NOTHING
        RETURNING device_id, recorded_at, x, y, z
    ), late AS (
        INSERT INTO late_readings SELECT * FROM stored
        WHERE recorded_at < (SELECT known.announced FROM sealed_devices AS known WHERE known.device_id = stored.device_id)
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) INTO added FROM stored;
    RETURN added;
END $$;

-- As in 0013, and copies new readings of announced times to late_readings. A scalar subquery: a join may be planned as a hash
-- of all devices.
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
        RETURNING id, device_id, recorded_at, x, y, z
    ), late AS (
        INSERT INTO late_readings SELECT device_id, recorded_at, x, y, z FROM stored
        WHERE recorded_at < (SELECT known.announced FROM sealed_devices AS known WHERE known.device_id = stored.device_id)
        ON CONFLICT DO NOTHING
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

-- As in 0009, and deletes the blocks of the month. The lock of retiring_months excludes the transactions of the worker that
-- build blocks: one of them might merge blocks that are deleted here. It does not exclude readers.
CREATE OR REPLACE FUNCTION drop_readings_month(month text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '10s' AS $$
DECLARE
    starts timestamptz;
    ends   timestamptz;
BEGIN
    IF month !~ '^readings_[0-9]{4}_[0-9]{2}$' THEN
        RAISE EXCEPTION '% is no month of readings', quote_literal(month) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(format('%I.%I', current_schema(), month))) THEN
        RAISE EXCEPTION '% is still a part of readings', month USING ERRCODE = 'object_in_use',
              HINT = 'detach it first';
    END IF;
    EXECUTE format('LOCK TABLE %I.%I IN ACCESS EXCLUSIVE MODE', current_schema(), month);
    LOCK TABLE retiring_months IN SHARE ROW EXCLUSIVE MODE;
    starts := to_date(right(month, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC';
    ends := (starts AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
    DELETE FROM blocks WHERE first >= starts AND first < ends;
    DELETE FROM block_values WHERE first >= starts AND first < ends;
    DELETE FROM block_columns WHERE first >= starts AND first < ends;
    DELETE FROM late_readings WHERE recorded_at >= starts AND recorded_at < ends;
    DELETE FROM retiring_months WHERE name = month;
    EXECUTE format('DROP TABLE %I.%I', current_schema(), month);
END $$;

-- For an operator who has changed readings by other means than Devicestat: deletes the blocks of the device from the moment
-- on, so that its analyses read `readings` until the worker has sealed them again. Returns the start of what is unsealed.
CREATE FUNCTION unseal_readings(device bigint, moment timestamptz) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    edge timestamptz;
BEGIN
    SELECT least(known.sealed, moment) INTO edge FROM sealed_devices AS known WHERE known.device_id = device FOR UPDATE;
    edge := least(edge, (SELECT min(block.first) FROM blocks AS block
                         WHERE block.device_id = device AND block.level <= 1 AND block.last >= edge));
    DELETE FROM block_columns WHERE device_id = device AND first >= edge;
    DELETE FROM block_values AS stored USING blocks AS block
    WHERE block.device_id = device AND block.last >= edge
      AND stored.device_id = device AND stored.level = block.level AND stored.first = block.first;
    DELETE FROM blocks WHERE device_id = device AND last >= edge;
    UPDATE blocks AS below SET merged = false
    WHERE below.device_id = device AND below.merged
      AND NOT EXISTS (SELECT FROM blocks AS above
                      WHERE above.device_id = device AND above.level = below.level + 1
                        AND above.first <= below.first AND above.last >= below.last);
    UPDATE sealed_devices SET sealed = edge, look_at = now() WHERE device_id = device;
    RETURN edge;
END $$;

REVOKE EXECUTE ON FUNCTION store_late_readings(bigint[], timestamptz[], timestamptz[], float8[], float8[], float8[]),
                           unseal_readings(bigint, timestamptz) FROM PUBLIC;

-- As in 0009: pg_temp last, and nothing but this schema.
DO $$
DECLARE
    own regprocedure;
BEGIN
    FOR own IN SELECT oid FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
               AND proname IN ('store_late_readings', 'drop_readings_month') LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', own, current_schema());
    END LOOP;
END $$;

-- The grants of all privileges follow in another transaction. Until then, services of an earlier version need these.
DO $$
BEGIN
    IF (SELECT relowner FROM pg_class WHERE oid = 'readings'::regclass) = to_regrole('devicestat_readings') THEN
        GRANT SELECT (device_id, announced) ON sealed_devices TO devicestat_api;
        GRANT INSERT ON late_readings TO devicestat_api;
        GRANT SELECT, DELETE ON blocks, block_values, block_columns, late_readings, retiring_months TO devicestat_partitions;
    END IF;
END $$;
