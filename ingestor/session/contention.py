"""Another client with our client id: found out by how our connections end, and answered with growing pauses.

MQTT gives a session to the client that connected last (MQTT-3.1.4-3). If both clients connect again at once, they
take the session from each other without end, and neither receives much. A broker that tells the older client says so
(DISCONNECT 0x8E); Mosquitto 2.0.11 closes its connection without a word, so that only the repetition tells.

An ingestor of ours that takes over shows in the journal: `session` asks there first.
"""

from shared.errors import BrokerError, BrokerUnreachable, ClientIdContended, ConnectionClosed
from shared.settings import MqttAddress

SILENT_CLOSES = 5
"""Connections in a row that the broker has closed without a word before another client is suspected."""
HELD_S = 60.0
"""A connection that held for this long was not taken over."""
LONGEST_PAUSE_S = 300.0


class Contention:
    """Counts the connections of ours that were taken over, one after the other."""

    def __init__(self, address: MqttAddress, client_id: str) -> None:
        self._address = address
        self._client_id = client_id
        self._closed = 0
        self._told = False  # by the broker, at least once

    @property
    def is_suspected(self) -> bool:
        return self._told or self._closed >= SILENT_CLOSES

    @property
    def pause_s(self) -> float:
        """The least time before the next attempt; it doubles with each connection that is taken over."""
        if not self.is_suspected:
            return 0.0
        exponent = self._closed if self._told else self._closed - SILENT_CLOSES + 1
        return min(LONGEST_PAUSE_S, 2.0 ** min(exponent, 10))

    def judge(self, error: BrokerError, held_s: float) -> BrokerError:
        """Return what to say of a connection that ended with the error `held_s` seconds after it was begun."""
        if held_s >= HELD_S or (isinstance(error, BrokerUnreachable) and not _was_closed(error)):
            self.forget()
        if not isinstance(error, ConnectionClosed) or not error.was_accepted:
            return error
        self._closed += 1
        self._told = self._told or error.taken_over
        return self._contended() if self.is_suspected else error

    def forget(self) -> None:
        """A connection has held, or could not be made: nobody takes ours over."""
        self._closed, self._told = 0, False

    def _contended(self) -> ClientIdContended:
        return ClientIdContended(str(self._address), self._client_id, self._closed, told=self._told)


def _was_closed(error: BrokerError) -> bool:
    return isinstance(error, ConnectionClosed) and error.was_accepted
