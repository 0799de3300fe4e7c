-- Who may connect: the services, and whoever owns the database (ADR 24). A copy of the database does not have it: neither
-- CREATE DATABASE … TEMPLATE nor pg_dump without --create takes it over.
--
-- Only the ingestor makes a temporary table. For who has none there is no pg_temp, in which to put functions either.
DO $$
DECLARE
    role text;
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, devicestat_ingestor, devicestat_api, devicestat_worker',
                   current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO devicestat_ingestor, devicestat_api, devicestat_worker',
                   current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO devicestat_ingestor', current_database());
    -- Where the schema is that of the owner's name, others do not find it by themselves.
    IF current_schema() <> 'public' THEN
        FOREACH role IN ARRAY ARRAY['devicestat_ingestor', 'devicestat_api', 'devicestat_worker'] LOOP
            EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = %I', role, current_database(), current_schema());
        END LOOP;
    END IF;
END $$;
