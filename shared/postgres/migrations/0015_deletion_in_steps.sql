-- A device's deletion is a mark (ADR 31): its row goes at once, and what belongs to it is removed by the worker, some at a
-- time. Foreign keys with ON DELETE CASCADE would delete all of it in the statement that deletes the device. Whoever adds
-- a row that belongs to a device, or a schedule, locks that one first, as the foreign key did.
ALTER TABLE analysis_requests DROP CONSTRAINT analysis_requests_device_id_fkey;
ALTER TABLE analysis_results DROP CONSTRAINT analysis_results_device_id_fkey;
ALTER TABLE analysis_schedules DROP CONSTRAINT analysis_schedules_device_id_fkey;
ALTER TABLE analysis_ticks DROP CONSTRAINT analysis_ticks_schedule_id_fkey;

-- Requests as they are shown: not those of deleted devices.
CREATE OR REPLACE VIEW shown_analysis_requests AS
    SELECT request.id, request.device_id, lower(request.period) AS start, upper(request.period) AS "end",
           request.figures, request.status, request.attempts, request.last_error, request.run_after AS retry_at,
           request.created_at, request.started_at, request.finished_at,
           CASE WHEN result.id IS NOT NULL THEN to_jsonb(result) END AS result,
           (SELECT coalesce(jsonb_agg(jsonb_build_object(
                       'url', callback.url, 'status', callback.status,
                       'attempts', callback.attempts, 'last_error', callback.last_error) ORDER BY callback.id), '[]')
            FROM analysis_callbacks AS callback WHERE callback.request_id = request.id) AS callbacks
    FROM analysis_requests AS request
    LEFT JOIN analysis_results AS result ON result.request_id = request.id
    WHERE EXISTS (SELECT FROM devices WHERE devices.id = request.device_id);
