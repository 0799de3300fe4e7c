-- The list of analyses has the names of their devices.

-- As in 0016, and the name of the device.
CREATE OR REPLACE VIEW shown_analysis_requests AS
    SELECT request.id, request.device_id, lower(request.period) AS start, upper(request.period) AS "end",
           request.figures, request.status, request.attempts, request.last_error, request.run_after AS retry_at,
           request.created_at, request.started_at, request.finished_at,
           CASE WHEN result.id IS NOT NULL THEN to_jsonb(result) END AS result,
           (SELECT coalesce(jsonb_agg(jsonb_build_object(
                       'url', callback.url, 'status', callback.status, 'owner', callback.owner,
                       'attempts', callback.attempts, 'last_error', callback.last_error) ORDER BY callback.id), '[]')
            FROM analysis_callbacks AS callback WHERE callback.request_id = request.id) AS callbacks,
           (SELECT name FROM devices WHERE devices.id = request.device_id) AS device_name
    FROM analysis_requests AS request
    LEFT JOIN analysis_results AS result ON result.request_id = request.id
    WHERE EXISTS (SELECT FROM devices WHERE devices.id = request.device_id);
