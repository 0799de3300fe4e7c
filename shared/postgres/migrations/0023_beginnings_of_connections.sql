-- begins: whether the entry marks the beginning of a connection. Two in succession show that the connection between them
-- brought no message (ADR 34).
ALTER TABLE ingest_journal ADD COLUMN begins boolean NOT NULL DEFAULT false;
