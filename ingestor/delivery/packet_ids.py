"""How the broker allocates packet ids: the rule for redelivered packets depends on it (ADR 34). Pure.

MQTT 5 lets a broker use any id that is free (section 2.2.1). Mosquitto and Artemis count up to 65,535 and begin again,
also over connections. mochi and rmqtt count, and begin again at 1 with each connection. HiveMQ CE takes the lowest free
id. Only in the first case is an id rare enough to identify a message. A new connection shows it: the first packet
without DUP has the id that follows the last one of the connection before, although a lower id is free.
"""

FIRST_ID = 1
PACKET_IDS = 65_535


class PacketIds:
    """What is known about the packet ids of a session.

    `in_sequence`: whether ids are allocated in sequence over connections; None while that is not known.
    `is_candidate`: whether the connection so far shows that they are. The next packet confirms it, unless more is
    redelivered before.
    `count`: the number of ids.
    """

    def __init__(self, in_sequence: bool | None = None, last: int | None = None, count: int = PACKET_IDS) -> None:
        self.in_sequence = in_sequence
        self.is_candidate = False
        self._last = last
        self._count = count
        self._half = count // 2
        self._redelivered: set[int] | None = None  # on this connection, until the first packet without DUP
        self._is_restored = False  # ids in sequence went back on this connection

    def begin(self) -> None:
        """A connection begins, and the broker has the session."""
        self._redelivered = set()
        self.is_candidate = False
        self._is_restored = False

    def note(self, packet_id: int, is_confirmed: bool = False) -> None:
        """Take note of a packet that came without DUP.

        `is_confirmed`: whether a PINGRESP has followed the packet that made `is_candidate` true.
        """
        is_candidate = self.shows_sequence(packet_id)
        last, self._last = self._last, packet_id
        redelivered, self._redelivered = self._redelivered, None
        if last is None:
            return
        step = (packet_id - last) % self._count
        if step == 0 or step > self._half:
            self._go_back(packet_id, redelivered)
        elif self.in_sequence is None and step == 1:
            if redelivered is not None:
                self.is_candidate = is_candidate
            elif self.is_candidate and is_confirmed:
                self.in_sequence = True

    def shows_sequence(self, packet_id: int) -> bool:
        """Whether a packet without DUP is the first one of its connection, and shows that ids are in sequence.

        Its id follows the last one. All lower ids are in use if they were all redelivered. Otherwise one is free, and
        was passed over.
        """
        last, redelivered = self._last, self._redelivered
        if last is None or redelivered is None or self._is_restored:
            return False
        return packet_id == last + 1 and len(redelivered) < last

    def note_redelivered(self, packet_id: int) -> None:
        """Take note of a packet that came with DUP, and not earlier on this connection: they may be in any order.

        After a packet without DUP it shows that `note` took ids for free that were in use.
        """
        if self._redelivered is None:
            self.in_sequence = False
        else:
            self._redelivered.add(packet_id)
        if self.is_ahead(packet_id):
            self._last = packet_id

    def note_unordered(self, packet_id: int) -> None:
        """A packet that is not known to be stored came with DUP, and its id is behind the last one.

        Later ids are compared with it.
        """
        self._go_back(packet_id, self._redelivered)
        self._last = packet_id

    def _go_back(self, packet_id: int, redelivered: set[int] | None) -> None:
        """An id went back. `redelivered`: None after the first packet without DUP of a connection.

        A broker that was restored from an older state goes back when a connection begins, and not to the lowest ids. If
        ids were in sequence before, that may become known again. Otherwise ids are reused.
        """
        is_at_beginning = redelivered is not None and packet_id > len(redelivered) + 1
        self._is_restored = is_at_beginning and bool(self.in_sequence or self._is_restored)
        self.in_sequence = None if self._is_restored else False
        self.is_candidate = False

    def is_ahead(self, packet_id: int) -> bool:
        """Whether the id comes after the last one in the cycle of all ids; true of the first one."""
        return self._last is None or 0 < (packet_id - self._last) % self._count <= self._half
