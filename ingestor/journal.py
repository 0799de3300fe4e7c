"""The journal: which packets of the broker session are stored, so that none is stored twice (ADR 3).

The transaction that stores a batch also writes the packet ids that it is about to acknowledge, each with a
CRC of topic and payload. If the acknowledgement is lost, the broker delivers the packet again under the
same packet id with DUP set; found here, it is acknowledged and not stored again.

Found means: in its place. We acknowledge in the order of receipt, and a broker redelivers in that order
(MQTT-4.6.0-1, -5), so what it redelivers begins with the end of the journal, packet by packet, and where
the two part everything else is new. A packet id by itself proves nothing: after an overrun of Receive
Maximum ids come round among what is redelivered, and devices at rest send equal payloads.

`batch_no` makes the rows of a client id a sequence that only grows, in which each number is written once. So a
retry of a batch whose COMMIT was not answered finds its own row, and an ingestor that another one has replaced
finds a row that is not its own, and stops. Each connection begins with an entry without packets, so that it
finds out at once: Mosquitto 2.0.11 closes the connection of a session that was taken over without a word.
"""

import struct
import uuid
from collections import deque
from collections.abc import Iterable
from zlib import crc32

import msgspec
from psycopg.errors import UniqueViolation

from ingestor.packets import Delivered
from shared.database import Connection
from shared.errors import SessionTakenOver
from shared.readings import Stored

SPAN = 60_000
"""The packets that the journal answers for: nearly as many as there are packet ids (65,535), so that it covers
what can be unacknowledged, and fewer, so that none of them is in it twice."""
MAX_ENTRIES = 60_000
"""Batches of QoS 0 alone have entries without packets, which would else pile up. So many take an hour at least."""

_packet = struct.Struct(">HI")
_pack = _packet.pack


class Entry(msgspec.Struct, frozen=True):
    """One batch: its number and its packets, six bytes each."""

    batch_no: int
    packets: bytes

    @property
    def count(self) -> int:
        return len(self.packets) // _packet.size


def pack(packet: Delivered) -> bytes:
    """The packet as the journal keeps it: its packet id, and a CRC-32 of topic and payload.

    Nothing where it has no packet id: nobody delivers it again (QoS 0).
    """
    packet_id = packet.packet_id
    return b"" if packet_id is None else _pack(packet_id, crc32(packet.payload, crc32(packet.topic.encode())))


class Journal:
    """The entries of one client id, as the database has them. Pure: `writer` runs its SQL."""

    def __init__(self, client_id: str, span: int = SPAN) -> None:
        self.client_id = client_id
        self.writer = uuid.uuid4()
        self._span = span
        self._entries: deque[Entry] = deque()
        self._count = 0
        self._next_no = 1
        self._expected: list[tuple[int, int]] = []
        self._at: int | None = None

    @property
    def next_no(self) -> int:
        """The number of the next batch."""
        return self._next_no

    @property
    def oldest_no(self) -> int:
        """Entries below this number are not needed any more."""
        return self._entries[0].batch_no if self._entries else self._next_no

    def replace(self, entries: Iterable[Entry]) -> None:
        """The journal as it was read from the database, in the order of batch_no."""
        self._entries.clear()
        self._count = 0
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """A batch that is committed."""
        self._entries.append(entry)
        self._next_no = entry.batch_no + 1
        self._count += entry.count
        while len(self._entries) > MAX_ENTRIES or self._count - self._entries[0].count >= self._span:
            self._count -= self._entries.popleft().count

    @property
    def is_empty(self) -> bool:
        """Whether it knows of no packet."""
        return self._count == 0

    def void(self) -> None:
        """The broker has no session of ours: its packet ids begin anew, and say nothing of the old ones."""
        self.replace([])

    def expect_redelivery(self) -> None:
        """A connection begins: what the broker now delivers again is held against the end of the journal."""
        packets = b"".join(entry.packets for entry in self._entries)
        self._expected = list(_packet.iter_unpack(packets))[-self._span :]
        self._at = None

    def is_stored(self, packet: Delivered) -> bool:
        """Whether this packet, which came with DUP set, is committed. To be asked of each of them, in order."""
        if not self._expected or packet.packet_id is None:
            return False
        seen: tuple[int, int] = _packet.unpack(pack(packet))
        if self._at is None:
            self._at = _last_index(self._expected, seen)
        if self._at < len(self._expected) and self._expected[self._at] == seen:
            self._at += 1
            return True
        self._expected = []
        return False


def _last_index(expected: list[tuple[int, int]], seen: tuple[int, int]) -> int:
    """Where it stands last; the length if nowhere."""
    return next((at for at in range(len(expected) - 1, -1, -1) if expected[at] == seen), len(expected))


LEFT = uuid.UUID(int=0)
"""The writer of the last entry of a client id that was given up."""

_LOAD = "SELECT batch_no, packets FROM ingest_journal WHERE client_id = %s ORDER BY batch_no"
# A number below the newest is not free either, whether or not its entry is still there.
_RECORD = """
    INSERT INTO ingest_journal (client_id, batch_no, writer, packets, stored, duplicates)
    SELECT %(client_id)s, %(batch_no)s, %(writer)s, %(packets)s, %(stored)s, %(duplicates)s
    WHERE NOT EXISTS (SELECT FROM ingest_journal WHERE client_id = %(client_id)s AND batch_no >= %(batch_no)s)
"""
_PRUNE = "DELETE FROM ingest_journal WHERE client_id = %s AND batch_no < %s"
_FIND = """
    SELECT batch_no, writer, stored, duplicates FROM ingest_journal
    WHERE client_id = %s AND batch_no >= %s ORDER BY batch_no LIMIT 1
"""
_GIVE_UP = """
    WITH last AS (
        INSERT INTO ingest_journal (client_id, batch_no, writer, packets, stored, duplicates)
        SELECT %(client_id)s, max(batch_no) + 1, %(left)s, '', 0, 0 FROM ingest_journal WHERE client_id = %(client_id)s
        RETURNING batch_no
    )
    DELETE FROM ingest_journal USING last WHERE client_id = %(client_id)s AND ingest_journal.batch_no < last.batch_no
"""


class NumberTaken(Exception):
    """An entry with the number, or a later one, is there already: `find` tells whose."""


async def load(connection: Connection, journal: Journal) -> None:
    """Reads the journal from the database."""
    cursor = await connection.execute(_LOAD, (journal.client_id,))
    journal.replace(Entry(batch_no, packets) for batch_no, packets in await cursor.fetchall())


async def record(connection: Connection, journal: Journal, packets: bytes, stored: Stored) -> None:
    """Writes the next entry and drops those that are not needed, in the transaction of its batch.

    Raises NumberTaken.
    """
    entry = {
        "client_id": journal.client_id,
        "batch_no": journal.next_no,
        "writer": journal.writer,
        "packets": packets,
        "stored": stored.stored,
        "duplicates": stored.duplicates,
    }
    try:
        cursor = await connection.execute(_RECORD, entry)
    except UniqueViolation as error:  # by a transaction that was under way
        raise NumberTaken from error
    if cursor.rowcount == 0:
        raise NumberTaken
    await connection.execute(_PRUNE, (journal.client_id, journal.oldest_no))


async def find(connection: Connection, journal: Journal) -> Stored | None:
    """What the next entry says of its batch, if it is committed after all; None if it is not there.

    Raises SessionTakenOver where another ingestor has written it, or a later one.
    """
    cursor = await connection.execute(_FIND, (journal.client_id, journal.next_no))
    row = await cursor.fetchone()
    if row is None:
        return None
    batch_no, writer, stored, duplicates = row
    if (batch_no, writer) != (journal.next_no, journal.writer):
        raise SessionTakenOver(journal.client_id)
    return Stored(stored, duplicates)


async def give_up(connection: Connection, client_id: str) -> None:
    """The client id's session is ended. One entry remains: who still believes to have it finds its number taken."""
    await connection.execute(_GIVE_UP, {"client_id": client_id, "left": LEFT})
