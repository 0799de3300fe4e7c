-- The broker learns of revoked tokens and deleted devices before it learns of new devices, however many of these wait.
-- turn: 0 first (see Change in shared/broker/outbox.py). A process of the version before gives none.
ALTER TABLE broker_outbox ADD COLUMN turn smallint NOT NULL DEFAULT 0;
CREATE INDEX broker_outbox_in_turns ON broker_outbox (turn, number);
