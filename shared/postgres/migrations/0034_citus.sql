-- What a Citus cluster needs of the schema (ADR 11). Without Citus nothing changes but the replica identity of later months.

-- Whether readings is distributed. pg_dist_partition exists only where the extension citus is installed.
CREATE FUNCTION is_distributed() RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'readings'::regclass);
END $$;

-- In a distributed database: `sealed` of each device, on the node of its blocks, so that one snapshot of that node contains
-- both. A trigger of sealed_devices writes it (shared/postgres/distribution.py). In other databases it is empty.
CREATE TABLE sealed_until (
    device_id bigint NOT NULL,
    sealed    timestamptz NOT NULL,
    CONSTRAINT sealed_until_one_each PRIMARY KEY (device_id)
);
-- Not SECURITY DEFINER: Citus refuses that a transaction changes rows of one shard as two roles.
CREATE FUNCTION copy_sealed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM sealed_until WHERE device_id = OLD.device_id;
    ELSE
        INSERT INTO sealed_until (device_id, sealed) VALUES (NEW.device_id, NEW.sealed)
        ON CONFLICT (device_id) DO UPDATE SET sealed = excluded.sealed;
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION is_distributed(), copy_sealed() FROM PUBLIC;

-- As in 0009, and with a replica identity, which Citus needs to move a shard while rows are written. A partition has its own.
CREATE OR REPLACE FUNCTION ensure_readings_partition(moment timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    month     timestamptz := date_trunc('month', moment, 'UTC');
    following timestamptz := (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
    partition text := 'readings_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass(format('%I.%I', current_schema(), partition)) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- One lock for all months: a caller that creates several holds it and that of readings, which another would cross.
    PERFORM pg_advisory_xact_lock(hashtext('devicestat'), hashtext('readings'));
    -- pg_class again: to_regclass may not know yet what was created during the wait.
    IF EXISTS (SELECT FROM pg_class WHERE relname = partition AND relnamespace = current_schema()::regnamespace) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE readings INCLUDING ALL EXCLUDING IDENTITY)', partition);
    EXECUTE format('ALTER TABLE %I REPLICA IDENTITY USING INDEX %I', partition, (
        SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = format('%I.%I', current_schema(), partition)::regclass AND indisunique));
    EXECUTE format('ALTER TABLE readings ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   partition, month, following);
    RETURN true;
END $$;

-- As in 0024, but that late readings are inserted by a statement of their own: Citus refuses a modifying CTE that refers to
-- another table.
CREATE OR REPLACE FUNCTION store_late_readings(
    device bigint[], recorded timestamptz[], received timestamptz[], xs float8[], ys float8[], zs float8[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    added bigint;
    late  late_readings[];
BEGIN
    WITH stored AS (
        INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
        SELECT * FROM unnest(device, recorded, received, xs, ys, zs) AS given (device_id, recorded_at, received_at, x, y, z)
        ORDER BY device_id, recorded_at, x, y, z
        ON CONFLICT DO NOTHING
        RETURNING device_id, recorded_at, x, y, z
    )
    SELECT count(*), array_agg((stored.device_id, recorded_at, x, y, z)::late_readings) FILTER (WHERE recorded_at < (
               SELECT known.announced FROM sealed_devices AS known WHERE known.device_id = stored.device_id))
    INTO added, late FROM stored;
    IF late IS NOT NULL THEN
        INSERT INTO late_readings SELECT * FROM unnest(late) ON CONFLICT DO NOTHING;
    END IF;
    RETURN added;
END $$;

CREATE OR REPLACE FUNCTION store_readings(
    request integer[], device bigint[], recorded timestamptz[], received timestamptz[],
    xs float8[], ys float8[], zs float8[], OUT ids bigint[], OUT added bigint[])
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    unknown bigint[];
    refused integer[];
    first timestamptz;
    last timestamptz;
    late late_readings[];
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
    )
    SELECT coalesce(array_agg(id), '{}'),
           array_agg((stored.device_id, recorded_at, x, y, z)::late_readings) FILTER (WHERE recorded_at < (
               SELECT known.announced FROM sealed_devices AS known WHERE known.device_id = stored.device_id))
    INTO added, late FROM stored;
    IF late IS NOT NULL THEN
        INSERT INTO late_readings SELECT * FROM unnest(late) ON CONFLICT DO NOTHING;
    END IF;

    IF cardinality(added) < cardinality(array_remove(ids, NULL)) THEN
        SELECT min(moment), max(moment) INTO first, last FROM unnest(recorded) AS moment;
        IF is_distributed() THEN  -- Citus refuses a scalar subquery here, and sends a join to the nodes
            SELECT array_agg(known.id ORDER BY given.position) INTO ids
            FROM unnest(ids, device, recorded, xs, ys, zs)
                 WITH ORDINALITY AS given (id, device_id, recorded_at, x, y, z, position)
            LEFT JOIN (
                SELECT asked.position, earlier.id
                FROM unnest(ids, device, recorded, xs, ys, zs)
                     WITH ORDINALITY AS asked (id, device_id, recorded_at, x, y, z, position)
                JOIN readings AS earlier USING (device_id, recorded_at, x, y, z)
                WHERE asked.id IS NOT NULL AND earlier.recorded_at BETWEEN first AND last
                OFFSET 0
            ) AS known USING (position);
        ELSE
            SELECT array_agg(CASE WHEN given.id IS NOT NULL THEN (
                       SELECT earlier.id FROM readings AS earlier
                       WHERE earlier.device_id = given.device_id AND earlier.recorded_at = given.recorded_at
                         AND earlier.recorded_at BETWEEN first AND last
                         AND earlier.x = given.x AND earlier.y = given.y AND earlier.z = given.z
                   ) END ORDER BY position) INTO ids
            FROM unnest(ids, device, recorded, xs, ys, zs)
                 WITH ORDINALITY AS given (id, device_id, recorded_at, x, y, z, position);
        END IF;
    END IF;
END $$;

-- As in 0014, but that the subqueries have a column: Citus cannot return rows without one.
CREATE OR REPLACE FUNCTION empty_readings_months() RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    month   text;
    is_used boolean;
BEGIN
    FOR month IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'readings'::regclass AND NOT inhdetachpending
          AND CASE WHEN relname ~ '^readings_[0-9]{4}_[0-9]{2}$'
                   THEN to_date(right(relname, 7), 'YYYY_MM') + interval '1 month' <= now() AT TIME ZONE 'UTC' END
        ORDER BY relname
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', month) INTO is_used;
        IF NOT is_used THEN
            RETURN NEXT month;
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION drop_empty_readings_month(month text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    is_used boolean;
BEGIN
    IF month !~ '^readings_[0-9]{4}_[0-9]{2}$' THEN
        RAISE EXCEPTION '% is no month of readings', quote_literal(month) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM set_config('lock_timeout', '100ms', true);
    IF is_distributed() THEN  -- as snapshots do there
        LOCK TABLE retiring_months IN ACCESS EXCLUSIVE MODE;
    END IF;
    LOCK TABLE ONLY readings IN ACCESS EXCLUSIVE MODE;
    IF to_regclass(format('%I.%I', current_schema(), month)) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.%I)', current_schema(), month) INTO is_used;
    IF is_used THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I.%I', current_schema(), month);
    RETURN true;
END $$;

-- The statement that finds the devices of a month: from one to the next by the index; on Citus, on all nodes at once.
CREATE FUNCTION devices_of_month(month text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF is_distributed() THEN
        RETURN format('SELECT DISTINCT device_id FROM %I', month);
    END IF;
    RETURN format('SELECT min(device_id) FROM %1$I UNION ALL '
                  'SELECT (SELECT min(device_id) FROM %1$I WHERE device_id > found.id) FROM found WHERE id IS NOT NULL',
                  month);
END $$;

CREATE OR REPLACE FUNCTION find_device_extents() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    month  text;
    starts timestamptz;
    ends   timestamptz;
    coming timestamptz := date_trunc('month', now(), 'UTC') + interval '2 months';
BEGIN
    FOR month IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'readings'::regclass AND NOT inhdetachpending ORDER BY relname
    LOOP
        starts := to_date(right(month, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC';
        ends := (starts AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
        IF ends >= coming - interval '2 months' THEN
            ends := greatest(ends, coming);
        END IF;
        EXECUTE format($month$
            WITH RECURSIVE found (id) AS (%s)
            INSERT INTO device_extents (device_id, starts_at, ends_at) SELECT id, $1, $2 FROM found WHERE id IS NOT NULL
            ON CONFLICT (device_id) DO UPDATE
            SET starts_at = least(device_extents.starts_at, excluded.starts_at),
                ends_at = greatest(device_extents.ends_at, excluded.ends_at)
            $month$, devices_of_month(month)) USING starts, ends;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION find_extents_of_month(month text) RETURNS bigint
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
        WITH RECURSIVE found (id) AS (%s)
        INSERT INTO device_extents (device_id, starts_at, ends_at)
        SELECT id, $1, $2 FROM found
        WHERE id IS NOT NULL AND NOT EXISTS (SELECT FROM device_extents AS had WHERE had.device_id = found.id
                                             AND had.starts_at <= $1 AND had.ends_at >= $2)
        ORDER BY id
        ON CONFLICT (device_id) DO UPDATE
        SET starts_at = least(device_extents.starts_at, excluded.starts_at),
            ends_at = greatest(device_extents.ends_at, excluded.ends_at)
        $month$, devices_of_month(month)) USING starts, (starts AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
    GET DIAGNOSTICS widened = ROW_COUNT;
    RETURN widened;
EXCEPTION WHEN undefined_table THEN  -- it was dropped meanwhile
    RETURN 0;
END $$;

REVOKE EXECUTE ON FUNCTION devices_of_month(text) FROM PUBLIC;

-- As in 0009: pg_temp last, and nothing but this schema.
DO $$
DECLARE
    own regprocedure;
BEGIN
    FOR own IN SELECT oid FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
               AND proname IN ('ensure_readings_partition', 'store_late_readings', 'empty_readings_months',
                               'drop_empty_readings_month', 'find_extents_of_month') LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', own, current_schema());
    END LOOP;
END $$;
