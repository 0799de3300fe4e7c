"""The journal of the stored packets of a broker session, so that none is stored twice (ADR 3, ADR 34).

The transaction that stores a batch also writes the packet ids that are acknowledged after it, each with a CRC of topic
and payload. If an acknowledgement is lost, the broker delivers the packet again, with DUP set. `redelivery` decides
which of those packets the journal proves to be stored. They are acknowledged and not stored again.

An entry also has the number of the journal's latest packets whose acknowledgements are held back until the next entry,
and whether the broker allocates packet ids in sequence.

`batch_no` makes the rows of a client id a sequence that only grows, in which each number is written once. So the retry
of a batch whose COMMIT was not answered finds its own row. An ingestor that another one has replaced finds a foreign
row, and stops. Each connection begins with an entry without packets, so that it detects this immediately: Mosquitto
2.0.11 closes the connection of a session that was taken over without a reason.
"""

import struct
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import cast
from zlib import crc32

import msgspec
from psycopg.errors import UniqueViolation

from ingestor.delivery.packet_ids import PACKET_IDS, PacketIds
from ingestor.delivery.redelivery import InOrder, InSequence, Packet, Redelivery, Undetermined
from ingestor.mqtt.packets import Delivered
from shared.errors import SessionTakenOver
from shared.postgres.connections import Connection
from shared.readings.store import Stored

SPAN = 60_000
"""Packets that the journal keeps: nearly as many as there are packet ids (65,535), so that it covers all packets that
can be unacknowledged."""
MAX_ENTRIES = 60_000
"""Entries that the journal keeps, which bounds those without packets, of batches at QoS 0. They cover an hour at
least."""

_packet = struct.Struct(">HI")
_pack = _packet.pack


class Entry(msgspec.Struct, frozen=True):
    """One batch: its number and its packets, six bytes each.

    `held`: the number of packets, at the end of this entry and those before it, that are not acknowledged before the
    next entry is written. `in_sequence`: whether the broker allocates packet ids in sequence; None: not known yet.
    `begins`: whether the entry marks the beginning of a connection.
    """

    batch_no: int
    packets: bytes
    held: int = 0
    in_sequence: bool | None = None
    begins: bool = False

    @property
    def count(self) -> int:
        return len(self.packets) // _packet.size


def pack(packet: Delivered) -> bytes:
    """Return the packet in the journal's format: its packet id, and a CRC-32 of topic and payload.

    Return nothing for a packet without an id (QoS 0): it is not redelivered.
    """
    packet_id = packet.packet_id
    return b"" if packet_id is None else _pack(packet_id, crc32(packet.payload, crc32(packet.topic.encode())))


def unpack(packets: bytes | bytearray) -> Iterator[Packet]:
    """Return the packets that `pack` has packed."""
    return cast("Iterator[Packet]", _packet.iter_unpack(packets))


class Journal:
    """The entries of one client id, as the database has them. Pure: `writer` runs its SQL."""

    def __init__(self, client_id: str, span: int = SPAN, ids: int = PACKET_IDS, *, may_hand_over: bool = False) -> None:
        """`may_hand_over`: whether the broker may give messages of this session to another one."""
        self.client_id = client_id
        self.writer = uuid.uuid4()
        self._span = span
        self._may_hand_over = may_hand_over
        self._entries: deque[Entry] = deque()
        self._count = 0
        self._next_no = 1
        self.held = 0  # of the last entry
        self._is_unmarked = False  # since the last packet a connection may have begun without an entry
        self.ids = ids
        self.packet_ids = PacketIds(count=ids)

    @property
    def next_no(self) -> int:
        """The number of the next batch."""
        return self._next_no

    @property
    def oldest_no(self) -> int:
        """The number of the oldest entry that is kept."""
        return self._entries[0].batch_no if self._entries else self._next_no

    def replace(self, entries: Iterable[Entry]) -> None:
        """Set the entries, as read from the database, in the order of batch_no."""
        self._entries.clear()
        self._count = self.held = 0
        for entry in entries:
            self.append(entry)
        packets = next((entry.packets for entry in reversed(self._entries) if entry.packets), None)
        last_id = _packet.unpack(packets[-_packet.size :])[0] if packets else None
        self.packet_ids = PacketIds(self._entries[-1].in_sequence if self._entries else None, last_id, self.ids)

    def next(self, packets: bytes, held: int) -> Entry:
        """Return the entry of the next batch."""
        return Entry(self._next_no, packets, held, self.packet_ids.in_sequence)

    def beginning(self) -> Entry:
        """Return the entry of a connection that begins."""
        return Entry(self._next_no, b"", self.held, self.packet_ids.in_sequence, begins=True)

    def miss_beginning(self) -> None:
        """A CONNECT had no answer: a connection may have begun, and the journal has no entry of it."""
        self._is_unmarked = True

    def append(self, entry: Entry) -> None:
        """Add the entry of a committed batch."""
        self._entries.append(entry)
        self._is_unmarked = self._is_unmarked and not entry.packets
        self._next_no = entry.batch_no + 1
        self.held = entry.held
        self._count += entry.count
        while len(self._entries) > MAX_ENTRIES or self._count - self._entries[0].count >= self._span:
            self._count -= self._entries.popleft().count

    @property
    def packets(self) -> int:
        """The number of its packets."""
        return self._count

    @property
    def is_empty(self) -> bool:
        """Whether the journal has no packets."""
        return self._count == 0

    def void(self) -> None:
        """Remove all entries: the broker has lost the session, so its packet ids start again."""
        self.replace([])
        self._is_unmarked = False

    def redelivery(self) -> Redelivery:
        """Return the rule that decides, for a new connection, which redelivered packets are stored."""
        packets = b"".join(entry.packets for entry in self._entries)
        known = list(unpack(packets))[-self._span :]
        by_sequence = InSequence(self._one_cycle(known), self.ids)
        if self.packet_ids.in_sequence:
            return by_sequence
        reuses_ids = self.packet_ids.in_sequence is False
        is_doubtful = self._brought_nothing and (self._may_hand_over or reuses_ids)
        by_order = InOrder(known, 0 if is_doubtful else min(self.held, len(known)), reuses_ids)
        return by_order if reuses_ids else Undetermined(by_order, by_sequence, self.ids // 4)

    @property
    def needs_next(self) -> bool:
        """Whether only a new message may show which packets of the next connection are stored: the last connection
        brought nothing."""
        is_doubtful = self._may_hand_over and (self._is_unmarked or self._beginnings > 0)
        return is_doubtful and self.packet_ids.in_sequence is None and not self.is_empty

    @property
    def _brought_nothing(self) -> bool:
        """Whether a connection before this one brought no packet, so that new ones may have ids of the journal."""
        return self._is_unmarked or self._beginnings > 1

    @property
    def _beginnings(self) -> int:
        """The number of connections that have begun since the last packet."""
        empty = takewhile(lambda entry: not entry.packets, reversed(self._entries))
        return sum(entry.begins for entry in empty)

    def _one_cycle(self, known: list[Packet]) -> list[Packet]:
        """Return the last packets, less than a cycle of ids: a broker that drops messages skips their ids."""
        passed = 0
        for at in range(len(known) - 1, 0, -1):
            passed += (known[at][0] - known[at - 1][0]) % self.ids
            if passed >= self._span:
                return known[at:]
        return known


TOMBSTONE = uuid.UUID(int=0)
"""The writer of a tombstone: the only entry of a client id whose session has ended."""

_LOAD = """
    SELECT batch_no, packets, held, in_sequence, begins FROM ingest_journal WHERE client_id = %s ORDER BY batch_no
"""
# A number below the newest is not free either, whether or not its entry is still there.
_RECORD = """
    INSERT INTO ingest_journal (client_id, batch_no, writer, packets, held, in_sequence, begins, stored, duplicates)
    SELECT %(client_id)s, %(batch_no)s, %(writer)s, %(packets)s, %(held)s, %(in_sequence)s, %(begins)s, %(stored)s,
           %(duplicates)s
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
        SELECT %(client_id)s, max(batch_no) + 1, %(tombstone)s, '', 0, 0
        FROM ingest_journal WHERE client_id = %(client_id)s
        RETURNING batch_no
    )
    DELETE FROM ingest_journal USING last WHERE client_id = %(client_id)s AND ingest_journal.batch_no < last.batch_no
"""


class NumberTaken(Exception):
    """An entry with this number or a later one exists; `find` shows its writer."""


async def load(connection: Connection, journal: Journal) -> None:
    """Read the journal from the database."""
    cursor = await connection.execute(_LOAD, (journal.client_id,))
    journal.replace(Entry(*row) for row in await cursor.fetchall())


async def record(connection: Connection, journal: Journal, entry: Entry, stored: Stored) -> None:
    """Write the next entry, and delete entries that are not kept, in the transaction of its batch.

    Raises NumberTaken.
    """
    row = {
        "client_id": journal.client_id,
        "batch_no": entry.batch_no,
        "writer": journal.writer,
        "packets": entry.packets,
        "held": entry.held,
        "in_sequence": entry.in_sequence,
        "begins": entry.begins,
        "stored": stored.stored,
        "duplicates": stored.duplicates,
    }
    try:
        cursor = await connection.execute(_RECORD, row)
    except UniqueViolation as error:  # by a transaction that was under way
        raise NumberTaken from error
    if cursor.rowcount == 0:
        raise NumberTaken
    await connection.execute(_PRUNE, (journal.client_id, journal.oldest_no))


async def find(connection: Connection, journal: Journal) -> Stored | None:
    """Return the counts of the next entry if its batch is committed after all; None if there is no entry.

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
    """Replace the entries of a client id whose session has ended by a tombstone.

    A process that still thinks it owns the session fails on its next write, because the tombstone has that number.
    """
    await connection.execute(_GIVE_UP, {"client_id": client_id, "tombstone": TOMBSTONE})
