"""The journal: which packets of the broker session are stored, so that none is stored twice (ADR 3).

The transaction that stores a batch also writes the packet ids that it is about to acknowledge, each with a
CRC of topic and payload. If the acknowledgement is lost, the broker delivers the packet again under the
same packet id with DUP set; found here, it is acknowledged and not stored again.

`batch_no` makes the rows of a client id a sequence in which each number can be written once. So a retry of
a batch whose COMMIT was not answered finds its own row, and an ingestor that another one has replaced
finds a row that is not its own, and stops. Each connection begins with an entry without packets, so that it
finds out at once: Mosquitto 2.0.11 closes the connection of a session that was taken over without a word.
"""

import struct
import uuid
import zlib
from collections import deque
from collections.abc import Iterable

import msgspec
from mqtt5 import PublishPacket

from shared.database import Connection
from shared.errors import SessionTakenOver
from shared.readings import Stored

SPAN = 32_768
"""The packets that the journal holds at least: more than can be unacknowledged at once (MQTT_WINDOW is at
most 32,767), and so few that a packet id, which comes round after 65,535, cannot be in it twice."""

_packet = struct.Struct(">HI")


class Entry(msgspec.Struct, frozen=True):
    """One batch: its number and its packets, six bytes each."""

    batch_no: int
    packets: bytes

    @property
    def count(self) -> int:
        return len(self.packets) // _packet.size


def checksum(packet: PublishPacket) -> int:
    """CRC-32 of topic and payload."""
    return zlib.crc32(packet.payload, zlib.crc32(packet.topic.encode()))


def pack(packets: Iterable[PublishPacket]) -> bytes:
    """The packets that are to be acknowledged, as the journal keeps them."""
    return b"".join([_packet.pack(p.packet_id, checksum(p)) for p in packets if p.packet_id is not None])


class Journal:
    """The entries of one client id, as the database has them. Pure: `writer` runs its SQL."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.writer = uuid.uuid4()
        self._entries: deque[Entry] = deque()
        self._next_no = 1
        self._span = 0
        self._stored: dict[int, int] = {}

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
        self._span = 0
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """A batch that is committed."""
        self._entries.append(entry)
        self._next_no = entry.batch_no + 1
        self._span += entry.count
        while len(self._entries) > SPAN or self._span - self._entries[0].count >= SPAN:
            self._span -= self._entries.popleft().count

    def expect_redelivery(self) -> None:
        """A connection begins: what the broker now delivers again is looked for among all that is committed
        until here, the latest where a packet id is there twice."""
        self._stored = {
            packet_id: crc for entry in self._entries for packet_id, crc in _packet.iter_unpack(entry.packets)
        }

    def void(self) -> None:
        """The broker has no session of ours: its packet ids begin anew, and say nothing of the old ones."""
        self.replace([])

    def is_stored(self, packet: PublishPacket) -> bool:
        """Whether this packet, which came with DUP set, is one that is committed."""
        return packet.packet_id is not None and self._stored.get(packet.packet_id) == checksum(packet)


_LOAD = "SELECT batch_no, packets FROM ingest_journal WHERE client_id = %s ORDER BY batch_no"
_RECORD = """
    INSERT INTO ingest_journal (client_id, batch_no, writer, packets, stored, duplicates)
    VALUES (%s, %s, %s, %s, %s, %s)
"""
_PRUNE = "DELETE FROM ingest_journal WHERE client_id = %s AND batch_no < %s"
_FIND = "SELECT writer, stored, duplicates FROM ingest_journal WHERE client_id = %s AND batch_no = %s"


async def load(connection: Connection, journal: Journal) -> None:
    """Reads the journal from the database."""
    cursor = await connection.execute(_LOAD, (journal.client_id,))
    journal.replace(Entry(batch_no, packets) for batch_no, packets in await cursor.fetchall())


async def record(connection: Connection, journal: Journal, packets: bytes, stored: Stored) -> None:
    """Writes the next entry and drops those that are not needed, in the transaction of its batch.

    Raises psycopg.errors.UniqueViolation where the number is taken: `find` tells by whom.
    """
    await connection.execute(
        _RECORD,
        (journal.client_id, journal.next_no, journal.writer, packets, stored.stored, stored.duplicates),
    )
    await connection.execute(_PRUNE, (journal.client_id, journal.oldest_no))


async def find(connection: Connection, journal: Journal) -> Stored | None:
    """What the next entry says of its batch, if it is committed after all; None if it is not there.

    Raises SessionTakenOver where another ingestor wrote it.
    """
    cursor = await connection.execute(_FIND, (journal.client_id, journal.next_no))
    row = await cursor.fetchone()
    if row is None:
        return None
    writer, stored, duplicates = row
    if writer != journal.writer:
        raise SessionTakenOver(journal.client_id)
    return Stored(stored, duplicates)
