-- The state of each process: of ingestors, APIs and workers, wherever they run (ADR 48).
--
-- UNLOGGED: a row is worth some seconds, and each process writes its row again every five. So a write needs no WAL and
-- waits for no disk. After a crash of the server the table is empty, and fills again within seconds.
--
-- id: made by the process at its start. name: the MQTT client id of an ingestor, the address of an API. All times are
-- of the database's clock. document: health and figures, of the version of the process.
CREATE UNLOGGED TABLE process_status (
    id         uuid PRIMARY KEY,
    kind       text NOT NULL,
    name       text NOT NULL,
    host       text NOT NULL,
    pid        integer NOT NULL,
    version    text NOT NULL,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    document   jsonb NOT NULL,
    CONSTRAINT process_status_kind_is_known CHECK (kind IN ('ingestor', 'api', 'worker')),
    CONSTRAINT process_status_is_small CHECK (length(document::text) <= 65536)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Writes the row of a process, and removes those that have expired. A row that is dated later than now is from before
-- the clock was set back: a process that runs has written a new one. It waits for no lock, since an ingestor calls it
-- between two batches.
CREATE FUNCTION report_process(
    process uuid, process_kind text, process_name text, process_host text, process_pid integer, process_version text,
    runs_for interval, state jsonb
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '500ms' AS $$
BEGIN
    INSERT INTO process_status (id, kind, name, host, pid, version, started_at, updated_at, document)
    VALUES (process, process_kind, process_name, process_host, process_pid, process_version, now() - runs_for, now(),
            state)
    ON CONFLICT (id) DO UPDATE
    SET started_at = EXCLUDED.started_at, updated_at = EXCLUDED.updated_at, document = EXCLUDED.document;
    DELETE FROM process_status WHERE id IN (
        SELECT id FROM process_status
        WHERE updated_at < now() - interval '15 minutes' OR updated_at > now() + interval '1 minute'
        ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED);
END $$;

-- Removes the row of a process that stops as it should.
CREATE FUNCTION withdraw_process(process uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET lock_timeout = '500ms' AS 'DELETE FROM process_status WHERE id = process';

REVOKE EXECUTE ON FUNCTION report_process, withdraw_process FROM PUBLIC;

-- As in 0009: pg_temp last, and nothing but this schema.
DO $$
DECLARE
    reporting regprocedure;
BEGIN
    FOR reporting IN SELECT oid FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
                     AND proname IN ('report_process', 'withdraw_process') LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', reporting, current_schema());
    END LOOP;
END $$;
