-- connected: whether a client has authenticated at a broker that asks (ADR 38) with this very token. While none has,
-- every client that is connected as the device shows an earlier token. Tokens of before this column count as connected.
ALTER TABLE device_tokens ADD COLUMN connected boolean NOT NULL DEFAULT true;
ALTER TABLE device_tokens ALTER COLUMN connected SET DEFAULT false;
