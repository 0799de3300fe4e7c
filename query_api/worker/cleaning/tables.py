"""The retention of each table of the schema, and the cleaners."""

from query_api.worker.cleaning import (
    broker_outbox,
    dead_letters,
    deleted_devices,
    expiring,
    orphaned_blocks,
    orphaned_ticks,
    requests,
    sessions,
    ticks,
)
from query_api.worker.cleaning.rounds import Cleaner
from shared.settings import Settings

RETENTION = {
    "access_keys": "400 days after a key was revoked or expired",
    "analysis_callbacks": "with their request",
    "analysis_requests": "RESULTS_KEEP after the request ended; the request of a schedule's latest tick stays",
    "analysis_results": "with their request",
    "analysis_schedules": "until deleted, by a client or with their device",
    "analysis_ticks": "RESULTS_KEEP, and with their schedule; the latest tick of a schedule stays",
    "audit_log": "AUDIT_KEEP",
    "block_columns": "with their block",
    "block_values": "with their block",
    "blocks": "with their month by RETENTION, and with their device",
    "broker_outbox": "until the broker has applied it; one row a device",
    "dead_letters": "DEAD_LETTERS_KEEP and DEAD_LETTERS_MAX_BYTES",
    "deleted_devices": "30 days after the last row of the device was removed; the newest mark stays",
    "device_activity": "one row a device, with the device",
    "device_activity_round": "one row",
    "device_extents": "one row a device, until its last reading is removed",
    "device_tokens": "one row a device, with the device",
    "devices": "until deleted",
    "ingest_journal": "60,000 packets a session (ADR 3); 90 days after the session's last entry",
    "ingest_subscriptions": "the topic filters of a session, while it has a journal and for 90 days at least",
    "late_readings": "until a block contains them; with their month by RETENTION, and with their device",
    "process_status": "15 minutes after the last report of the process, which any other process deletes",
    "readings": "RETENTION, by months, and with their device",
    "retiring_months": "while RETENTION drops the month",
    "schema_migrations": "one row a migration",
    "sealed_devices": "one row a device, with the device",
    "sealed_until": "one row a device, with the device; only on a Citus cluster",
    "sessions": "until they expire, 7 days after the sign-in or with their key, or 24 hours after their last use",
    "suspected_blocks": "until the worker has checked the block",
}
"""When the rows of each table are deleted."""
_CLEANERS = (
    requests.cleaner,
    ticks.cleaner,
    orphaned_ticks.cleaner,
    orphaned_blocks.cleaner,
    expiring.audit_cleaner,
    expiring.keys_cleaner,
    expiring.journals_cleaner,
    expiring.topic_filters_cleaner,
    sessions.cleaner,
    broker_outbox.cleaner,
    deleted_devices.cleaner,
    dead_letters.age_cleaner,
    dead_letters.size_cleaner,
)


def cleaners(settings: Settings) -> list[Cleaner]:
    """Return the cleaners for these settings."""
    return [made for make in _CLEANERS if (made := make(settings)) is not None]
