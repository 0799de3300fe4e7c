-- Privileges to connect, for the services only; the owner of the database needs none (ADR 24). A copy of the database
-- lacks them: neither CREATE DATABASE … TEMPLATE nor pg_dump without --create copies them.
--
-- Only the ingestor creates a temporary table. A role without TEMPORARY has no schema pg_temp, and so cannot create
-- functions there either.
DO $$
DECLARE
    role text;
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, devicestat_ingestor, devicestat_api, devicestat_worker',
                   current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO devicestat_ingestor, devicestat_api, devicestat_worker',
                   current_database());
    -- Citus executes DDL on the nodes as the owner of the table, which logs in there. The owners have no password.
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        FOREACH role IN ARRAY ARRAY['devicestat_readings', 'devicestat_partitions'] LOOP
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
            IF NOT (SELECT rolcanlogin FROM pg_roles WHERE rolname = role) THEN
                EXECUTE format('ALTER ROLE %I LOGIN', role);
            END IF;
        END LOOP;
    END IF;
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO devicestat_ingestor', current_database());
    -- A schema named like its owner is not in the default search_path of other roles.
    IF current_schema() <> 'public' THEN
        FOREACH role IN ARRAY ARRAY['devicestat_ingestor', 'devicestat_api', 'devicestat_worker'] LOOP
            EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = %I', role, current_database(), current_schema());
        END LOOP;
    END IF;
END $$;
