-- Analyses that come round again. period: an ISO 8601 duration up to each tick; null: all time. next_tick: null while
-- it is paused. last_error: why a worker has paused it.
CREATE TABLE analysis_schedules (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id  bigint NOT NULL REFERENCES devices ON DELETE CASCADE,
    name       text,
    cron       text NOT NULL,
    timezone   text NOT NULL,
    period     text,
    align      boolean NOT NULL,
    figures    text[] NOT NULL,
    callback   text,
    next_tick  timestamptz,
    last_tick  timestamptz,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX analysis_schedules_due ON analysis_schedules (next_tick) WHERE next_tick IS NOT NULL;
CREATE INDEX analysis_schedules_by_device ON analysis_schedules (device_id, id);

-- Which request each tick has made: one a tick, however many workers saw that it was due. A request that was folded
-- with one that waited already may be of several ticks. It stays when its request is deleted.
CREATE TABLE analysis_ticks (
    schedule_id bigint NOT NULL REFERENCES analysis_schedules ON DELETE CASCADE,
    tick        timestamptz NOT NULL,
    request_id  bigint REFERENCES analysis_requests ON DELETE SET NULL,
    CONSTRAINT analysis_ticks_once PRIMARY KEY (schedule_id, tick)
);
CREATE INDEX analysis_ticks_by_request ON analysis_ticks (request_id);
