-- Sessions of signed-in browsers, and the rules by which the API administers keys (ADR 45).

-- hash: SHA-256 of the secret in the cookie, which is not stored. expires_at: fixed at sign-in; never after the key's expiry.
CREATE TABLE sessions (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash         bytea NOT NULL,
    key_id       bigint NOT NULL REFERENCES access_keys ON DELETE CASCADE,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    CONSTRAINT sessions_hash_is_unique UNIQUE (hash),
    CONSTRAINT sessions_hash_is_sha_256 CHECK (octet_length(hash) = 32),
    CONSTRAINT sessions_expire_after_they_begin CHECK (expires_at > created_at)
);
CREATE INDEX sessions_by_key ON sessions (key_id, id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- A key never becomes valid again: a role that may end keys, such as the API's, cannot restore one.
CREATE FUNCTION access_keys_only_end() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.prefix, NEW.hash, NEW.role) IS DISTINCT FROM (OLD.id, OLD.prefix, OLD.hash, OLD.role)
       OR (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
       OR coalesce(NEW.expires_at, 'infinity') > coalesce(OLD.expires_at, 'infinity') THEN
        RAISE EXCEPTION 'a key keeps its role and its secret, stays revoked, and never expires later than before'
              USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION access_keys_only_end() FROM PUBLIC;
CREATE TRIGGER access_keys_only_end BEFORE UPDATE OF id, prefix, hash, role, revoked_at, expires_at ON access_keys
    FOR EACH ROW EXECUTE FUNCTION access_keys_only_end();

-- For lists of the audit log, newest first, of one actor or one action.
CREATE INDEX audit_log_by_actor ON audit_log (actor, id);
CREATE INDEX audit_log_by_action ON audit_log (action, id);
