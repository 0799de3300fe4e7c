-- Privileges of each service in the schema: exactly those that its statements need (ADR 24). Idempotent: all privileges
-- of the roles are revoked first.
DO $$
DECLARE
    roles oid[] := ARRAY['devicestat_ingestor'::regrole, 'devicestat_api'::regrole, 'devicestat_worker'::regrole];
    place regnamespace := current_schema()::regnamespace;
    what  text;
BEGIN
    FOR what IN
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || pg_class.oid::regclass
        FROM pg_class
        WHERE relnamespace = place AND (
            EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = ANY (roles)) OR
            EXISTS (SELECT FROM pg_attribute, aclexplode(attacl) WHERE attrelid = pg_class.oid AND grantee = ANY (roles)))
        UNION ALL
        SELECT 'SCHEMA ' || place
        UNION ALL
        SELECT 'FUNCTION ' || pg_proc.oid::regprocedure
        FROM pg_proc JOIN pg_class ON pg_class.oid = 'devices'::regclass
        WHERE pronamespace = place AND proowner IN (relowner, 'devicestat_partitions'::regrole)
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM devicestat_ingestor, devicestat_api, devicestat_worker', what);
        IF what LIKE 'FUNCTION %' THEN
            EXECUTE format('REVOKE EXECUTE ON %s FROM PUBLIC', what);
        END IF;
    END LOOP;
    EXECUTE format('REVOKE CREATE ON SCHEMA %s FROM PUBLIC', place);
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO devicestat_ingestor, devicestat_api, devicestat_worker', place);
END $$;

GRANT SELECT ON schema_migrations TO devicestat_ingestor, devicestat_api, devicestat_worker;
-- Each writes its state by functions. `devicestat doctor` reads it with any role.
GRANT SELECT ON process_status TO devicestat_ingestor, devicestat_api, devicestat_worker;
GRANT EXECUTE ON FUNCTION report_process, withdraw_process TO devicestat_ingestor, devicestat_api, devicestat_worker;

-- The ingestor inserts readings and cannot read them. Of dead letters it reads what `devicestat doctor` counts, and no
-- payload.
GRANT SELECT, INSERT (key, name) ON devices TO devicestat_ingestor;
-- Privileges on columns do not reach the shards of Citus: on tables that it distributes, they are on the whole table.
GRANT INSERT ON readings TO devicestat_ingestor;
-- It updates the counts of rows that count several messages.
GRANT SELECT (id, received_at, received_until, messages, payload_bytes, readings, reasons),
      INSERT (received_at, received_until, topic, content_type, payload, reason, detail,
              payload_bytes, messages, readings, reasons, faults, refused, step),
      UPDATE (received_at, received_until, messages, payload_bytes, readings, reason, reasons)
    ON dead_letters TO devicestat_ingestor;
GRANT SELECT, INSERT, DELETE ON ingest_journal, ingest_subscriptions TO devicestat_ingestor;
GRANT SELECT ON deleted_devices TO devicestat_ingestor;
GRANT SELECT, INSERT, UPDATE ON device_extents TO devicestat_ingestor, devicestat_api;
GRANT SELECT (device_id, announced, number) ON sealed_devices TO devicestat_ingestor;
GRANT INSERT ON late_readings TO devicestat_ingestor, devicestat_api;
GRANT EXECUTE ON FUNCTION ensure_readings_partition, pass_deletion_fence, pass_fence, store_late_readings,
      devices_deleted_since, is_distributed, trigrams TO devicestat_ingestor;

-- The API creates keys and ends them; a trigger keeps it from making a key valid again. It reads the audit log, and cannot
-- change it. UPDATE on one column allows it to lock a row.
GRANT SELECT, INSERT (id, key, name), UPDATE (name), DELETE ON devices TO devicestat_api;
GRANT SELECT ON device_activity, device_activity_round TO devicestat_api;
GRANT INSERT (device_id, key) ON deleted_devices TO devicestat_api;
GRANT SELECT, INSERT ON readings TO devicestat_api;
GRANT SELECT ON sealed_devices, sealed_until, late_readings, blocks, block_values, block_columns, retiring_months,
      hidden_months TO devicestat_api;
GRANT INSERT ON suspected_blocks TO devicestat_api;
GRANT USAGE ON SEQUENCE devices_id_seq, readings_id_seq TO devicestat_api;
GRANT EXECUTE ON FUNCTION ensure_readings_partition, store_readings, pass_deletion_fence, close_deletion_fence,
      is_distributed, trigrams TO devicestat_api;
GRANT SELECT, INSERT (device_id, period, figures, joinable, owner, by_schedule),
      UPDATE (status, attempts, joinable, owner, by_schedule, run_after, lease_token, lease_until, created_at, started_at,
              finished_at)
    ON analysis_requests TO devicestat_api;
GRANT SELECT, INSERT (request_id, url, owner), UPDATE (message_id, status, attempts, due_at, token, last_error)
    ON analysis_callbacks TO devicestat_api;
GRANT SELECT, DELETE ON analysis_results TO devicestat_api;
GRANT SELECT ON shown_analysis_requests, analysis_ticks TO devicestat_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON analysis_schedules TO devicestat_api;
GRANT SELECT, INSERT (prefix, hash, role, name, expires_at), UPDATE (last_used_at, revoked_at, expires_at)
    ON access_keys TO devicestat_api;
GRANT SELECT, INSERT (hash, key_id, expires_at), UPDATE (last_used_at), DELETE ON sessions TO devicestat_api;
GRANT SELECT, INSERT, UPDATE ON device_tokens TO devicestat_api;
GRANT SELECT, INSERT (device_id, turn), DELETE ON broker_outbox TO devicestat_api;
GRANT SELECT, INSERT (actor, origin, action, subject, detail) ON audit_log TO devicestat_api;
-- It shows dead letters, deletes them, and replays them: with pass_fence, which reads deleted_devices, and
-- store_late_readings, as it cannot create the ingestor's temporary table.
GRANT SELECT, UPDATE (payload, reason, detail, readings, reasons, faults, refused), DELETE ON dead_letters
    TO devicestat_api;
GRANT SELECT ON deleted_devices TO devicestat_api;
GRANT EXECUTE ON FUNCTION pass_fence, store_late_readings TO devicestat_api;

-- The worker changes no device. UPDATE (created_at) allows it to lock the device of a request that it finishes.
GRANT SELECT, UPDATE (created_at) ON devices TO devicestat_worker;
GRANT SELECT, UPDATE (state, last_at, interval, rate) ON device_activity TO devicestat_worker;
GRANT UPDATE ON device_activity_round TO devicestat_worker;
GRANT SELECT, DELETE ON readings, device_extents TO devicestat_worker;
-- It seals readings, and takes back what it has sealed.
GRANT SELECT, INSERT, UPDATE, DELETE ON sealed_devices TO devicestat_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON blocks, sealed_until TO devicestat_worker;
GRANT SELECT, INSERT, DELETE ON block_values, block_columns TO devicestat_worker;
GRANT SELECT, DELETE ON late_readings TO devicestat_worker;
GRANT SELECT, INSERT ON retiring_months TO devicestat_worker;
GRANT SELECT ON hidden_months TO devicestat_worker;
GRANT SELECT, INSERT, DELETE ON suspected_blocks TO devicestat_worker;
GRANT USAGE ON SEQUENCE sealed_devices_number_seq TO devicestat_worker;
GRANT SELECT, UPDATE (removed_at), DELETE ON deleted_devices TO devicestat_worker;
GRANT EXECUTE ON FUNCTION ensure_readings_partition, detach_readings_month, drop_readings_month, empty_readings_months,
      is_distributed, drop_empty_readings_month, expire_audit_entries, expire_access_keys,
      expire_journals, expire_subscriptions, find_extents_of_month TO devicestat_worker;
GRANT SELECT, INSERT (device_id, period, figures, joinable, owner, by_schedule),
      UPDATE (status, attempts, joinable, by_schedule, run_after, lease_token, lease_until, last_error, started_at,
              finished_at), DELETE
    ON analysis_requests TO devicestat_worker;
GRANT INSERT (request_id, device_id, "start", "end", x, y, z) ON analysis_results TO devicestat_worker;
GRANT SELECT, INSERT (request_id, url, owner), UPDATE (status, attempts, due_at, token, last_error)
    ON analysis_callbacks TO devicestat_worker;
GRANT SELECT ON shown_analysis_requests, device_tokens TO devicestat_worker;
GRANT SELECT, UPDATE (next_tick, last_tick, last_error), DELETE ON analysis_schedules TO devicestat_worker;
GRANT SELECT, INSERT (schedule_id, tick), UPDATE (request_id), DELETE ON analysis_ticks TO devicestat_worker;
GRANT SELECT, INSERT (device_id, turn), DELETE ON broker_outbox TO devicestat_worker;
GRANT SELECT (id, expires_at, last_used_at), DELETE ON sessions TO devicestat_worker;
-- It reads the age and the size of dead letters. UPDATE (messages) allows it to lock a row.
GRANT SELECT (id, received_at, kept_bytes), UPDATE (messages), DELETE ON dead_letters TO devicestat_worker;

-- The API estimates the number of a device's readings from the statistics of each month, which it sees only for tables
-- that it may read. Default privileges extend this to later months.
DO $$
DECLARE
    month regclass;
BEGIN
    FOR month IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'readings'::regclass LOOP
        EXECUTE format('GRANT SELECT ON %s TO devicestat_api', month);
    END LOOP;
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE devicestat_partitions IN SCHEMA %I GRANT SELECT ON TABLES '
                   'TO devicestat_api', current_schema());
END $$;
