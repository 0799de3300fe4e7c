-- Callbacks take turns by the host that receives them (ADR 31), and say whose they are: as the key's prefix; null where no key
-- was shown, or before this.
ALTER TABLE analysis_callbacks
    ADD COLUMN host text COLLATE "C" NOT NULL
        GENERATED ALWAYS AS (lower(substring(url from '^[A-Za-z]+://(\[[^]]*\]|[^/:?]*)'))) STORED,
    ADD COLUMN owner text;
DROP INDEX analysis_callbacks_due;
CREATE INDEX analysis_callbacks_due ON analysis_callbacks (host, due_at) WHERE status = 'waiting' AND due_at IS NOT NULL;
CREATE INDEX analysis_callbacks_held ON analysis_callbacks (host, due_at) WHERE token IS NOT NULL;

-- owner: who asked for the request, or made the schedule; the requests of a schedule have none. callback_owner: who gave
-- the schedule's callback.
ALTER TABLE analysis_requests ADD COLUMN owner text;
CREATE INDEX analysis_requests_queued_by_owner ON analysis_requests (owner)
    WHERE status = 'queued' AND owner IS NOT NULL;
ALTER TABLE analysis_schedules ADD COLUMN owner text, ADD COLUMN callback_owner text;
CREATE INDEX analysis_schedules_by_owner ON analysis_schedules (owner) WHERE owner IS NOT NULL;

-- As in 0015; each callback says whose it is.
CREATE OR REPLACE VIEW shown_analysis_requests AS
    SELECT request.id, request.device_id, lower(request.period) AS start, upper(request.period) AS "end",
           request.figures, request.status, request.attempts, request.last_error, request.run_after AS retry_at,
           request.created_at, request.started_at, request.finished_at,
           CASE WHEN result.id IS NOT NULL THEN to_jsonb(result) END AS result,
           (SELECT coalesce(jsonb_agg(jsonb_build_object(
                       'url', callback.url, 'status', callback.status, 'owner', callback.owner,
                       'attempts', callback.attempts, 'last_error', callback.last_error) ORDER BY callback.id), '[]')
            FROM analysis_callbacks AS callback WHERE callback.request_id = request.id) AS callbacks
    FROM analysis_requests AS request
    LEFT JOIN analysis_results AS result ON result.request_id = request.id
    WHERE EXISTS (SELECT FROM devices WHERE devices.id = request.device_id);
