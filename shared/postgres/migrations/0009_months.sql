-- Months are made and dropped by whoever may call these functions, and not only by the owner of readings (ADR 24): they
-- run as their own owner, and find what they name in this schema alone, whatever the caller's search_path says.

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
    -- One lock for all months: who makes several holds it and readings' own, which another would cross.
    PERFORM pg_advisory_xact_lock(hashtext('devicestat'), hashtext('readings'));
    -- Asked anew of pg_class: to_regclass need not have heard yet of what was made while we waited.
    IF EXISTS (SELECT FROM pg_class WHERE relname = partition AND relnamespace = current_schema()::regnamespace) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE readings INCLUDING ALL EXCLUDING IDENTITY)', partition);
    EXECUTE format('ALTER TABLE readings ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   partition, month, following);
    RETURN true;
END $$;

-- Drops a month that was detached: DETACH … CONCURRENTLY cannot run in a function.
CREATE FUNCTION drop_readings_month(month text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF month !~ '^readings_[0-9]{4}_[0-9]{2}$' THEN
        RAISE EXCEPTION '% is no month of readings', quote_literal(month) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(format('%I.%I', current_schema(), month))) THEN
        RAISE EXCEPTION '% is still a part of readings', month USING ERRCODE = 'object_in_use',
              HINT = 'detach it first';
    END IF;
    EXECUTE format('DROP TABLE %I.%I', current_schema(), month);
END $$;

REVOKE EXECUTE ON FUNCTION ensure_readings_partition(timestamptz), drop_readings_month(text) FROM PUBLIC;

-- pg_temp last: else it is searched first, and a caller's temporary table called readings would be taken for ours.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION ensure_readings_partition(timestamptz) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION drop_readings_month(text) SET search_path = %I, pg_temp', current_schema());
END $$;
