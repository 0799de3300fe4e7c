-- Owners of readings and its months, so that no service owns them (ADR 24). Idempotent.
--
-- devicestat_readings owns the table readings. The worker may SET ROLE to it, as DETACH … CONCURRENTLY requires. It cannot
-- create tables or functions.
-- devicestat_partitions owns the months, and the functions that create, detach and drop them. No role logs in as it. Only
-- the owner of the other tables may SET ROLE to it, in order to migrate readings.
-- In a distributed database it owns all distributed tables. Citus moves the tables of each owner by a subscription of its
-- own, and does not wait for each of them to start: what is written meanwhile to tables of another owner is lost.
DO $$
DECLARE
    place       text := quote_ident(current_schema());
    migrator    name;
    distributed regclass;
    month       regclass;
    making      regprocedure;
BEGIN
    FOR migrator IN
        SELECT current_user UNION SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'devices'::regclass
    LOOP
        IF NOT pg_has_role(migrator, 'devicestat_readings', 'USAGE') THEN
            EXECUTE format('GRANT devicestat_readings TO %I', migrator);
        END IF;
        IF NOT pg_has_role(migrator, 'devicestat_partitions', 'USAGE') THEN
            EXECUTE format('GRANT devicestat_partitions TO %I', migrator);
        END IF;
    END LOOP;
    IF NOT pg_has_role('devicestat_partitions', 'devicestat_readings', 'USAGE') THEN
        GRANT devicestat_readings TO devicestat_partitions;
    END IF;
    IF NOT pg_has_role('devicestat_worker', 'devicestat_readings', 'MEMBER') THEN
        GRANT devicestat_readings TO devicestat_worker;  -- the worker is NOINHERIT
    END IF;

    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %s TO devicestat_partitions', place);
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO devicestat_readings', place);

    IF is_distributed() THEN
        FOR distributed IN
            SELECT logicalrelid FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid
            WHERE relnamespace = current_schema()::regnamespace AND relowner <> 'devicestat_partitions'::regrole
            ORDER BY relname
        LOOP
            EXECUTE format('ALTER TABLE %s OWNER TO devicestat_partitions', distributed);
        END LOOP;
    ELSIF (SELECT relowner FROM pg_class WHERE oid = 'readings'::regclass) <> 'devicestat_readings'::regrole THEN
        EXECUTE format('GRANT CREATE ON SCHEMA %s TO devicestat_readings', place);  -- required of a new owner, only for this statement
        ALTER TABLE readings OWNER TO devicestat_readings;
        EXECUTE format('REVOKE CREATE ON SCHEMA %s FROM devicestat_readings', place);
    END IF;
    FOR month IN
        SELECT oid FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
          AND relname ~ '^readings_[0-9]{4}_[0-9]{2}$' AND relowner <> 'devicestat_partitions'::regrole
        ORDER BY relname
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO devicestat_partitions', month);
    END LOOP;
    FOR making IN
        SELECT oid FROM pg_proc WHERE proowner <> 'devicestat_partitions'::regrole
        AND oid IN ('ensure_readings_partition'::regproc, 'drop_readings_month'::regproc,
                    'detach_readings_month'::regproc, 'empty_readings_months'::regproc, 'drop_empty_readings_month'::regproc)
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO devicestat_partitions', making);
    END LOOP;
    -- drop_readings_month deletes the blocks of its month. find_extents_of_month and others ask whether readings is
    -- distributed.
    GRANT EXECUTE ON FUNCTION is_distributed, devices_of_month TO devicestat_partitions;
    GRANT SELECT, DELETE ON blocks, block_values, block_columns, late_readings, retiring_months TO devicestat_partitions;
    REVOKE DELETE ON retiring_months FROM devicestat_readings;  -- an earlier version granted it
END $$;
