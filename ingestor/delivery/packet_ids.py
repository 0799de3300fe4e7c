"""How the broker allocates packet ids: the rule for redelivered packets depends on it (ADR 34). Pure.

MQTT 5 lets a broker use any id that is free (section 2.2.1). Mosquitto and Artemis count up to 65,535 and begin again,
also over connections. mochi and rmqtt count, and begin again at 1 with each connection. HiveMQ CE takes the lowest free
id. Only in the first case is an id rare enough to tell a message, and it shows at a new connection: the first packet
without DUP has the id that follows the last one of the connection before, although a lower id is free.
"""

PACKET_IDS = 65_535


class PacketIds:
    """What the packets of a session have shown.

    `in_sequence`: whether ids are allocated in sequence over connections; None while that is not known.
    `count`: how many ids there are.
    """

    def __init__(self, in_sequence: bool | None = None, last: int | None = None, count: int = PACKET_IDS) -> None:
        self.in_sequence = in_sequence
        self._last = last
        self._count = count
        self._half = count // 2
        self._redelivered: set[int] | None = None  # on this connection, until the first packet without DUP

    def begin(self) -> None:
        """A connection begins, and the broker has the session."""
        self._redelivered = set()

    def note(self, packet_id: int) -> None:
        """Take note of a packet that came without DUP."""
        last, self._last = self._last, packet_id
        if last is None:
            self._redelivered = None
            return
        step = (packet_id - last) % self._count
        if step == 0 or step > self._half:
            self.in_sequence = False
        elif self._redelivered is not None and step == 1 and self.in_sequence is None:
            # All ids below are in use if they were all redelivered; else one is free, and was passed over.
            self.in_sequence = True if len(self._redelivered) < last < packet_id else None
        self._redelivered = None

    def note_redelivered(self, packet_id: int) -> None:
        """Take note of a packet that came with DUP, and not earlier on this connection: they may be in any order.

        After a packet without DUP it shows that `note` took ids for free that were in use.
        """
        if self._redelivered is None:
            self.in_sequence = False
        else:
            self._redelivered.add(packet_id)
        if self._last is None or self.is_ahead(packet_id):
            self._last = packet_id

    def note_unordered(self) -> None:
        """A packet that is not known to be stored came with DUP, and its id does not follow the last one."""
        self.in_sequence = False

    def is_next(self, packet_id: int) -> bool:
        """Whether the id follows the last one directly; true of the first one."""
        return self._last is None or (packet_id - self._last) % self._count == 1

    def is_ahead(self, packet_id: int) -> bool:
        """Whether the id comes after the last one in the cycle of all ids."""
        return self._last is not None and 0 < (packet_id - self._last) % self._count <= self._half
