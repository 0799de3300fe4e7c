-- Who may do what (ADR 22): keys of people and tools, tokens of devices, what the broker is to be told, and who did what.

-- prefix: what is shown of a key. hash: SHA-256 of the whole of it; the key itself is kept nowhere.
CREATE TABLE access_keys (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prefix       text NOT NULL,
    hash         bytea NOT NULL,
    role         text NOT NULL,
    name         text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT access_keys_prefix_is_unique UNIQUE (prefix),
    CONSTRAINT access_keys_hash_is_sha_256 CHECK (octet_length(hash) = 32),
    CONSTRAINT access_keys_role_is_known CHECK (role IN ('admin', 'analyst', 'writer')),
    CONSTRAINT access_keys_name_is_short CHECK (length(name) <= 200)
);

-- One a device. nonce: from which, with DEVICE_SECRET, the token can be made again for a broker that has lost it; null
-- where the token was drawn at random.
CREATE TABLE device_tokens (
    device_id  bigint PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    hash       bytea NOT NULL,
    nonce      bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT device_tokens_hash_is_sha_256 CHECK (octet_length(hash) = 32)
);

-- Devices of which the broker does not know yet what it should (ADR 23). A row goes when the broker has it: what that is
-- is looked up then, so that one row does as well as several.
CREATE TABLE broker_outbox (
    number    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id bigint NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION broker_outbox_filled() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('broker_outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER broker_outbox_filled AFTER INSERT ON broker_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION broker_outbox_filled();

-- Who did what, when, from where. Rows are only ever added.
CREATE TABLE audit_log (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    actor         text NOT NULL,
    origin        text NOT NULL,
    action        text NOT NULL,
    subject       text NOT NULL,
    detail        jsonb NOT NULL DEFAULT '{}',
    database_role name NOT NULL DEFAULT session_user
);
CREATE INDEX audit_log_by_time ON audit_log (at);
CREATE INDEX audit_log_by_subject ON audit_log (subject, at);

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of audit_log are never changed or deleted' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
