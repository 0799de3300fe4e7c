"""Detection of another client with the ingestor's client id, and growing pauses before reconnecting.

MQTT gives a session to the client that connected last (MQTT-3.1.4-3). If both clients reconnect immediately, they take
the session from each other forever, and neither receives much. Most brokers notify the older client (DISCONNECT 0x8E);
Mosquitto 2.0.11 only closes its connection, so only the repetition indicates it.

Another ingestor that takes over writes to the journal: `session` checks that first.
"""

from shared.errors import BrokerError, BrokerUnreachable, ClientIdContended, ConnectionClosed
from shared.settings import MqttAddress

SILENT_CLOSES = 5
"""Consecutive connections that the broker closes without DISCONNECT before another client is suspected."""
HELD_S = 60.0
"""Duration after which a connection counts as not taken over."""
LONGEST_PAUSE_S = 300.0


class Contention:
    """Counts consecutive connections that were taken over."""

    def __init__(self, address: MqttAddress, client_id: str) -> None:
        self._address = address
        self._client_id = client_id
        self._closed = 0
        self._is_notified = False  # the broker has sent DISCONNECT 0x8E at least once

    @property
    def is_suspected(self) -> bool:
        return self._is_notified or self._closed >= SILENT_CLOSES

    @property
    def pause_s(self) -> float:
        """Minimum delay before the next attempt, in seconds; it doubles with each connection that is taken over."""
        if not self.is_suspected:
            return 0.0
        exponent = self._closed if self._is_notified else self._closed - SILENT_CLOSES + 1
        return min(LONGEST_PAUSE_S, 2.0 ** min(exponent, 10))

    def judge(self, error: BrokerError, held_s: float) -> BrokerError:
        """Return the error to report for a connection that ended with `error`, `held_s` seconds after its start."""
        if held_s >= HELD_S or (isinstance(error, BrokerUnreachable) and not _was_closed(error)):
            self.forget()
        if not isinstance(error, ConnectionClosed) or not error.was_accepted:
            return error
        self._closed += 1
        self._is_notified = self._is_notified or error.taken_over
        return self._contended() if self.is_suspected else error

    def forget(self) -> None:
        """Reset the count: a connection lasted, or could not be made."""
        self._closed, self._is_notified = 0, False

    def _contended(self) -> ClientIdContended:
        return ClientIdContended(str(self._address), self._client_id, self._closed, is_notified=self._is_notified)


def _was_closed(error: BrokerError) -> bool:
    return isinstance(error, ConnectionClosed) and error.was_accepted
