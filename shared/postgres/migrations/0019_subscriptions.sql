-- The topic filters that each broker session may be subscribed to (ADR 35). A filter is added before its SUBSCRIBE and
-- removed after its UNSUBACK, so a session is never subscribed to a filter that is missing here. A client id without a
-- row has a session from before this table, or none.
CREATE TABLE ingest_subscriptions (
    client_id     text NOT NULL,
    topic_filter  text NOT NULL,
    subscribed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ingest_subscriptions_are_distinct PRIMARY KEY (client_id, topic_filter)
);

-- Deletes up to `most` rows of client ids whose journal has expired (expire_journals, 0012); returns their number.
CREATE FUNCTION expire_subscriptions(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    deleted integer;
BEGIN
    DELETE FROM ingest_subscriptions WHERE (client_id, topic_filter) IN (
        SELECT client_id, topic_filter FROM ingest_subscriptions AS one
        WHERE subscribed_at < now() - interval '90 days'
          AND NOT EXISTS (SELECT FROM ingest_journal AS entry WHERE entry.client_id = one.client_id)
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;
REVOKE EXECUTE ON FUNCTION expire_subscriptions FROM PUBLIC;

-- As in 0012: pg_temp last, and nothing but this schema.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION expire_subscriptions SET search_path = %I, pg_temp', current_schema());
END $$;
