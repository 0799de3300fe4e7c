-- The queue of analyses (ADR 8). A worker that runs one holds a lease on it, and may only finish what
-- it still holds: the token tells a worker that came back from the one that took over.
CREATE TABLE analysis_requests (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id   bigint NOT NULL REFERENCES devices ON DELETE CASCADE,
    period      tstzrange NOT NULL,
    status      text NOT NULL DEFAULT 'queued',
    attempts    integer NOT NULL DEFAULT 0,
    run_after   timestamptz NOT NULL DEFAULT now(),
    lease_token uuid,
    lease_until timestamptz,
    last_error  text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    finished_at timestamptz,
    CONSTRAINT analysis_requests_status_is_known
        CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    CONSTRAINT analysis_requests_period_is_not_empty CHECK (NOT isempty(period)),
    CONSTRAINT analysis_requests_running_holds_a_lease
        CHECK ((status = 'running') = (lease_token IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT analysis_requests_ended_has_a_time
        CHECK ((status IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
);
CREATE INDEX analysis_requests_waiting ON analysis_requests (run_after, id) WHERE status = 'queued';
CREATE INDEX analysis_requests_leased ON analysis_requests (lease_until) WHERE status = 'running';
CREATE INDEX analysis_requests_by_device ON analysis_requests (device_id, id);

-- Each axis: {"min", "max", "sum", "count", "median"}.
CREATE TABLE analysis_results (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id bigint NOT NULL REFERENCES analysis_requests ON DELETE CASCADE,
    device_id  bigint NOT NULL REFERENCES devices ON DELETE CASCADE,
    "start"    timestamptz,
    "end"      timestamptz,
    x          jsonb NOT NULL,
    y          jsonb NOT NULL,
    z          jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT analysis_results_one_a_request UNIQUE (request_id)
);
CREATE INDEX analysis_results_by_device ON analysis_results (device_id, id);
