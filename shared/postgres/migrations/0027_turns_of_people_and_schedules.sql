-- People and schedules take turns in the queue (ADR 42).

-- by_schedule: only schedules have asked for it. False also for the requests that a worker of an earlier version queues.
ALTER TABLE analysis_requests ADD COLUMN by_schedule boolean NOT NULL DEFAULT false;

-- Each class has the devices of its queued requests together. Workers of earlier versions read analysis_requests_waiting.
CREATE INDEX analysis_requests_of_people ON analysis_requests (device_id, id)
    WHERE status = 'queued' AND run_after IS NULL AND NOT by_schedule;
CREATE INDEX analysis_requests_of_schedules ON analysis_requests (device_id, id)
    WHERE status = 'queued' AND run_after IS NULL AND by_schedule;

UPDATE analysis_requests AS request SET by_schedule = true
WHERE status = 'queued' AND owner IS NULL AND EXISTS (SELECT FROM analysis_ticks WHERE request_id = request.id);
