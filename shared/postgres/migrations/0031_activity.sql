-- The activity of devices, for lists in the order of it (ADR 47). A round of the worker keeps it; a row is there from the
-- registration of its device on, so that such a list has every device.

-- state: 0 live, 1 late, 2 silent, 3 never. last_at: the time of the last reading, or of its receipt if that was earlier;
-- -infinity without one. interval: the usual distance of the last readings. rate: readings per second; 0 while silent.
-- lower_name: of the device, by which lists are sorted. Its order is the same in every locale.
CREATE TABLE device_activity (
    device_id  bigint NOT NULL REFERENCES devices ON DELETE CASCADE,
    state      smallint NOT NULL DEFAULT 3,
    last_at    timestamptz NOT NULL DEFAULT '-infinity',
    interval   interval,
    rate       float8 NOT NULL DEFAULT 0,
    lower_name text COLLATE "C" NOT NULL,
    CONSTRAINT device_activity_one_each PRIMARY KEY (device_id),
    CONSTRAINT device_activity_state_is_known CHECK (state BETWEEN 0 AND 3),
    CONSTRAINT device_activity_has_a_reading_or_never_had CHECK ((state = 3) = (last_at = '-infinity')),
    CONSTRAINT device_activity_interval_is_positive CHECK (interval > '0'),
    CONSTRAINT device_activity_rate_is_a_number CHECK (rate BETWEEN 0 AND 1e12)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- A list of some states merges the parts of these indexes, of which each is in the order of the list.
CREATE INDEX device_activity_by_state ON device_activity (state, device_id);
CREATE INDEX device_activity_by_last ON device_activity (state, last_at, device_id);
CREATE INDEX device_activity_by_rate ON device_activity (state, rate, device_id);
CREATE INDEX device_activity_by_name ON device_activity (state, lower_name, device_id);

-- The start of the latest complete round: the figures are of this time or later. One row.
CREATE TABLE device_activity_round (
    began_at timestamptz
);
CREATE UNIQUE INDEX device_activity_round_is_one_row ON device_activity_round ((true));
INSERT INTO device_activity_round VALUES (NULL);

CREATE FUNCTION begin_device_activity() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO device_activity (device_id, lower_name) SELECT id, lower(added.name) FROM added ORDER BY id;
    RETURN NULL;
END $$;

CREATE FUNCTION rename_device_activity() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE device_activity SET lower_name = lower(NEW.name) WHERE device_id = NEW.id;
    RETURN NULL;
END $$;

REVOKE EXECUTE ON FUNCTION begin_device_activity(), rename_device_activity() FROM PUBLIC;

CREATE TRIGGER devices_begin_activity AFTER INSERT ON devices
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION begin_device_activity();
CREATE TRIGGER devices_rename_activity AFTER UPDATE OF name ON devices
    FOR EACH ROW WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION rename_device_activity();

INSERT INTO device_activity (device_id, lower_name) SELECT id, lower(name) FROM devices;

-- As in 0009: pg_temp last, and nothing but this schema.
DO $$
DECLARE
    own regprocedure;
BEGIN
    FOR own IN SELECT oid FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
               AND proname IN ('begin_device_activity', 'rename_device_activity') LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', own, current_schema());
    END LOOP;
END $$;
