-- The queue, complete (ADR 18): figures on request, equal requests folded into one, turns by device, callbacks.

-- figures: those asked for besides the five. joinable: who asks for the same gets this request too, for as long as
-- no worker has begun it; what was put back once stays out of it, so that it can never collide with a later one.
-- run_after: not before then; null: whenever a worker has room.
ALTER TABLE analysis_requests
    ADD COLUMN figures  text[]  NOT NULL DEFAULT '{}',
    ADD COLUMN joinable boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT analysis_requests_joinable_is_queued CHECK (NOT joinable OR status = 'queued'),
    ALTER COLUMN run_after DROP NOT NULL,
    ALTER COLUMN run_after DROP DEFAULT;
UPDATE analysis_requests SET run_after = NULL WHERE status <> 'queued' OR run_after <= now();
ALTER TABLE analysis_requests
    ADD CONSTRAINT analysis_requests_only_queued_wait CHECK (run_after IS NULL OR status = 'queued');

CREATE UNIQUE INDEX analysis_requests_folded ON analysis_requests (device_id, period, figures) WHERE joinable;

-- Each device's waiting requests stand together: a worker goes from device to device, and passes over all of one's.
DROP INDEX analysis_requests_waiting;
CREATE INDEX analysis_requests_waiting ON analysis_requests (device_id, id)
    WHERE status = 'queued' AND run_after IS NULL;
CREATE INDEX analysis_requests_put_off ON analysis_requests (run_after)
    WHERE status = 'queued' AND run_after IS NOT NULL;
CREATE INDEX analysis_requests_by_status ON analysis_requests (status, id);
CREATE INDEX analysis_requests_by_device_and_status ON analysis_requests (device_id, status, id);

-- A row is written four times in its life, and most rows have ended: by their number alone the dead ones in front of
-- the queue would be left lying.
ALTER TABLE analysis_requests SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Who is called when a request has ended. token: which attempt may write what came of it; due_at: not before then,
-- null until the request has ended. While one is being sent it is due again when its lease runs out.
CREATE TABLE analysis_callbacks (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id   bigint NOT NULL REFERENCES analysis_requests ON DELETE CASCADE,
    url          text NOT NULL,
    message_id   uuid NOT NULL DEFAULT gen_random_uuid(),
    status       text NOT NULL DEFAULT 'waiting',
    attempts     integer NOT NULL DEFAULT 0,
    due_at       timestamptz,
    token        uuid,
    last_error   text,
    CONSTRAINT analysis_callbacks_one_a_url UNIQUE (request_id, url),
    CONSTRAINT analysis_callbacks_status_is_known CHECK (status IN ('waiting', 'delivered', 'failed')),
    CONSTRAINT analysis_callbacks_only_waiting_are_due CHECK (due_at IS NULL OR status = 'waiting')
);
CREATE INDEX analysis_callbacks_due ON analysis_callbacks (due_at) WHERE status = 'waiting' AND due_at IS NOT NULL;
ALTER TABLE analysis_callbacks SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- In whatever way a request ends: its callbacks are due in the same transaction, and whoever waits for it, or computes
-- it, hears of it.
CREATE FUNCTION analysis_request_ended() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('analysis_ended', OLD.id::text);
    IF TG_OP = 'UPDATE' THEN
        UPDATE analysis_callbacks SET due_at = now() WHERE request_id = OLD.id;
        IF FOUND THEN
            PERFORM pg_notify('analysis_callbacks', OLD.id::text);
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER analysis_request_ended AFTER UPDATE OF status ON analysis_requests
    FOR EACH ROW WHEN (OLD.status IN ('queued', 'running') AND NEW.status IN ('done', 'failed', 'cancelled'))
    EXECUTE FUNCTION analysis_request_ended();
CREATE TRIGGER analysis_request_removed AFTER DELETE ON analysis_requests
    FOR EACH ROW WHEN (OLD.status IN ('queued', 'running'))
    EXECUTE FUNCTION analysis_request_ended();

-- Requests as they are shown.
CREATE VIEW shown_analysis_requests AS
    SELECT request.id, request.device_id, lower(request.period) AS start, upper(request.period) AS "end",
           request.figures, request.status, request.attempts, request.last_error, request.run_after AS retry_at,
           request.created_at, request.started_at, request.finished_at,
           CASE WHEN result.id IS NOT NULL THEN to_jsonb(result) END AS result,
           (SELECT coalesce(jsonb_agg(jsonb_build_object(
                       'url', callback.url, 'status', callback.status,
                       'attempts', callback.attempts, 'last_error', callback.last_error) ORDER BY callback.id), '[]')
            FROM analysis_callbacks AS callback WHERE callback.request_id = request.id) AS callbacks
    FROM analysis_requests AS request
    LEFT JOIN analysis_results AS result ON result.request_id = request.id;
