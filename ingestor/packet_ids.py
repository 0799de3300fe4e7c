"""How the broker allocates packet ids: the rule for redelivered packets depends on it (ADR 34). Pure.

MQTT 5 lets a broker use any id that is free (section 2.2.1). Two allocations are known. Mosquitto, mochi, rmqtt and
Artemis count up to 65,535 and begin again. HiveMQ CE takes the lowest free id, so that an id can return with the next
message. Two observations tell them apart: an id is passed over that the broker must know to be free, or an id exceeds
the number of packets that may be in flight.
"""

PACKET_IDS = 65_535


class PacketIds:
    """What the packets of a session have shown.

    `in_sequence`: whether ids are allocated in sequence; None while that is not known. `count`: how many ids there are.
    """

    def __init__(self, in_sequence: bool | None = None, last: int | None = None, count: int = PACKET_IDS) -> None:
        self.in_sequence = in_sequence
        self._last = last
        self._count = count
        self._half = count // 2
        self._free: int | None = None
        self._passed_from: tuple[int, int] | None = None  # an id that is free, and the last one when that was known

    def note(self, packet_id: int) -> None:
        """Take note of a packet that came without DUP."""
        last, self._last = self._last, packet_id
        if last is None:
            return
        step = (packet_id - last) % self._count
        if step == 1:
            if self._free is not None:
                self._look_at_free(self._free)
        elif step == 0 or step > self._half:
            self.in_sequence = False

    def _look_at_free(self, free: int) -> None:
        if self.in_sequence is None and self._last is not None and self._last > free:
            self.in_sequence = True
        self._free = None

    def note_redelivered(self, packet_id: int) -> None:
        """Take note of a packet that came with DUP: redelivery may be in any order."""
        if self._last is None or self.is_ahead(packet_id):
            self._last = packet_id

    def note_free(self, packet_id: int | None) -> None:
        """The id is free and the broker knows it, and it has nothing to send: the next id is yet to be allocated."""
        self._free = packet_id

    def note_acknowledged(self, packet_id: int) -> None:
        """The id is free and the broker knows it, while it goes on sending."""
        if self._last is not None:
            self._passed_from = (packet_id, self._last)

    def look_back(self, in_flight: int) -> None:
        """Look whether an id was passed over since `note_acknowledged`, by packets that were allocated after that.

        `in_flight`: no more packets were allocated before.
        """
        if self.in_sequence is None and self._passed_from is not None and self._last is not None:
            free, began = self._passed_from
            if self._last > free and (self._last - began) % self._count > in_flight:
                self.in_sequence = True

    def note_window(self, window: int) -> None:
        """No more packets than the window can be in flight."""
        if self.in_sequence is None and self._last is not None and self._last > window:
            self.in_sequence = True

    def is_next(self, packet_id: int) -> bool:
        """Whether the id follows the last one directly; true of the first one."""
        return self._last is None or (packet_id - self._last) % self._count == 1

    def is_ahead(self, packet_id: int) -> bool:
        """Whether the id comes after the last one in the cycle of all ids."""
        return self._last is not None and 0 < (packet_id - self._last) % self._count <= self._half
