-- How long rows stay (ADR 31): indexes for the worker's cleaning round, and functions for the tables of which the
-- worker's role may delete nothing by itself. Each function deletes at most `most` rows and returns their number.

CREATE INDEX analysis_requests_ended ON analysis_requests (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX analysis_ticks_by_time ON analysis_ticks (tick);
CREATE INDEX broker_outbox_by_device ON broker_outbox (device_id, number);

-- Rows of audit_log are still never changed, and deleted by expire_audit_entries alone: only that function sets
-- devicestat.expire_audit.
CREATE OR REPLACE FUNCTION audit_log_is_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('devicestat.expire_audit', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'rows of audit_log are never changed, and deleted by expire_audit_entries() alone'
          USING ERRCODE = 'insufficient_privilege';
END $$;

-- Deletes the oldest entries, down to those of the age, once there is one that is a day older: so a table at its
-- retention gets about one entry a day that says so, and not one for each that goes. The least age is a bound for a
-- caller that the audit log is to convict.
CREATE FUNCTION expire_audit_entries(age interval, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    edge    timestamptz := now() - age;
    deleted integer;
    latest  timestamptz;
BEGIN
    IF age IS NULL OR edge > now() - interval '30 days' THEN
        RAISE EXCEPTION 'entries of audit_log stay for at least 30 days, not %', age
              USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT EXISTS (SELECT FROM audit_log WHERE at < edge - interval '1 day') THEN
        RETURN 0;
    END IF;
    PERFORM set_config('devicestat.expire_audit', 'on', true);
    WITH expired AS (
        DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE at < edge
                                           ORDER BY at LIMIT most FOR UPDATE SKIP LOCKED)
        RETURNING at
    )
    SELECT count(*), max(at) INTO deleted, latest FROM expired;
    PERFORM set_config('devicestat.expire_audit', 'off', true);
    IF deleted > 0 THEN
        INSERT INTO audit_log (actor, origin, action, subject, detail)
        VALUES ('retention', coalesce(host(inet_client_addr()), 'local'), 'audit.expired', 'audit log',
                jsonb_build_object('entries', deleted, 'up_to', latest));
    END IF;
    RETURN deleted;
END $$;

-- Keys that were revoked, or expired, more than 400 days ago.
CREATE FUNCTION expire_access_keys(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    deleted integer;
BEGIN
    DELETE FROM access_keys WHERE id IN (
        SELECT id FROM access_keys WHERE least(revoked_at, expires_at) < now() - interval '400 days'
        ORDER BY id LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

-- The journals of client ids that have stored nothing for 90 days, the oldest entries first: a broker has ended their
-- sessions long before. One step in the index a client id, however many entries it has.
CREATE FUNCTION expire_journals(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    deleted integer;
BEGIN
    WITH RECURSIVE newest AS (
        (SELECT client_id, batch_no, committed_at FROM ingest_journal ORDER BY client_id DESC, batch_no DESC LIMIT 1)
        UNION ALL
        SELECT following.*
        FROM newest CROSS JOIN LATERAL (
            SELECT client_id, batch_no, committed_at FROM ingest_journal WHERE client_id < newest.client_id
            ORDER BY client_id DESC, batch_no DESC LIMIT 1
        ) AS following
    ), gone AS (
        SELECT entry.client_id, entry.batch_no
        FROM newest JOIN ingest_journal AS entry USING (client_id)
        WHERE newest.committed_at < now() - interval '90 days' AND entry.batch_no <= newest.batch_no
        ORDER BY entry.client_id, entry.batch_no
        LIMIT most
    )
    DELETE FROM ingest_journal USING gone
    WHERE ingest_journal.client_id = gone.client_id AND ingest_journal.batch_no = gone.batch_no;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

REVOKE EXECUTE ON FUNCTION expire_audit_entries, expire_access_keys, expire_journals FROM PUBLIC;

-- As in 0009: pg_temp last, and nothing but this schema.
DO $$
DECLARE
    expiring regprocedure;
BEGIN
    FOR expiring IN SELECT oid FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
                    AND proname IN ('expire_audit_entries', 'expire_access_keys', 'expire_journals') LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', expiring, current_schema());
    END LOOP;
END $$;
