-- Detach a month on a Citus cluster, which has no DETACH … CONCURRENTLY. It waits for all readers and writers, and they wait
-- behind it: so not for long. Snapshots lock retiring_months. On a cluster, no service can become the owner of readings.
CREATE FUNCTION detach_readings_month(month text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '250ms' AS $$
BEGIN
    IF month !~ '^readings_[0-9]{4}_[0-9]{2}$' THEN
        RAISE EXCEPTION '% is no month of readings', quote_literal(month) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT is_distributed() THEN
        RAISE EXCEPTION 'readings is not distributed' USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'ALTER TABLE readings DETACH PARTITION … CONCURRENTLY keeps nobody waiting';
    END IF;
    LOCK TABLE retiring_months IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('ALTER TABLE readings DETACH PARTITION %I', month);
END $$;
REVOKE EXECUTE ON FUNCTION detach_readings_month(text) FROM PUBLIC;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION detach_readings_month(text) SET search_path = %I, pg_temp', current_schema());
END $$;
