"""Bounds on the messages that are collected and not yet written (ADR 2). Pure."""

from ingestor.batch import Batch

HIGH_READINGS = 50_000
HIGH_BYTES = 16 * 1024 * 1024
HIGH_PACKETS = 20_000
"""High watermarks: above any of them, reading from the broker pauses. The readings are those that may become rows; all
refused elements of a message count as one. The packets are those whose acknowledgements a broken connection loses, and
which the journal must identify (ADR 3)."""


class Backlog:
    """The size of the batches that are not yet written."""

    def __init__(self) -> None:
        self.batches = 0
        self.rows = 0
        self.size_bytes = 0
        self.packets = 0

    @property
    def is_high(self) -> bool:
        """Whether any high watermark is exceeded."""
        return self.rows > HIGH_READINGS or self.size_bytes > HIGH_BYTES or self.packets > HIGH_PACKETS

    @property
    def is_low(self) -> bool:
        """Whether all low watermarks, half of the high ones, allow reading to resume."""
        return (
            self.rows <= HIGH_READINGS // 2 and self.size_bytes <= HIGH_BYTES // 2 and self.packets <= HIGH_PACKETS // 2
        )

    def remove(self, batch: Batch) -> None:
        """Subtract a batch that is committed."""
        self.batches -= 1
        self.rows -= batch.rows
        self.size_bytes -= batch.size_bytes
        self.packets -= len(batch.packet_ids)
