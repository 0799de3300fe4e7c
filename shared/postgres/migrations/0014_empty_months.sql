-- Months that have ended and hold no reading, which a device with a wrong clock leaves behind once it is deleted, are
-- dropped (ADR 28). Who calls these functions need not own the months (ADR 24).

CREATE FUNCTION empty_readings_months() RETURNS SETOF text
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
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', month) INTO is_used;
        IF NOT is_used THEN
            RETURN NEXT month;
        END IF;
    END LOOP;
END $$;

-- Drops the month if it is still empty; true if it did. The lock keeps every writer out, so that nothing can be committed
-- between the look and the drop. Whoever comes meanwhile waits behind it: so it is waited for a tenth of a second at most.
CREATE FUNCTION drop_empty_readings_month(month text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    is_used boolean;
BEGIN
    IF month !~ '^readings_[0-9]{4}_[0-9]{2}$' THEN
        RAISE EXCEPTION '% is no month of readings', quote_literal(month) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM set_config('lock_timeout', '100ms', true);
    LOCK TABLE ONLY readings IN ACCESS EXCLUSIVE MODE;
    IF to_regclass(format('%I.%I', current_schema(), month)) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.%I)', current_schema(), month) INTO is_used;
    IF is_used THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I.%I', current_schema(), month);
    RETURN true;
END $$;

REVOKE EXECUTE ON FUNCTION empty_readings_months(), drop_empty_readings_month(text) FROM PUBLIC;

-- pg_temp last: else it is searched first, and a caller's temporary table called readings would be taken for ours.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION empty_readings_months() SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION drop_empty_readings_month(text) SET search_path = %I, pg_temp', current_schema());
END $$;
