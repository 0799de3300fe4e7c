"""Decide whether a client of a broker may connect, and what it may do there (ADR 38)."""

from collections.abc import Callable

import msgspec
import structlog

from query_api.devices.mqtt.known_devices import REMEMBERED_S, KnownDevice, KnownDevices
from query_api.devices.mqtt.rules import TopicAction
from query_api.ids import MAX_ID
from query_api.web.limits.window import Window
from shared.access.credentials import GivenToken, is_same, read
from shared.broker.names import device_id_of, device_name
from shared.postgres.connections import RETRYABLE
from shared.settings import TopicFilter

MANY_FAILURES = 10
"""Refused attempts of one user name in a minute. Further attempts use a cached device that is ..."""
FAILING_REMEMBERED_S = 10.0
"""... up to this many seconds old."""

_log = structlog.get_logger()


class Allowed(msgspec.Struct, frozen=True):
    """The client is allowed. `topic`: the only topic it may publish to."""

    topic: str


class Denied(msgspec.Struct, frozen=True):
    """The client is denied. `undecided`: the database did not respond. `stranger`: the user name is not a device's."""

    reason: str
    undecided: bool = False
    stranger: bool = False


Decision = Allowed | Denied
_STRANGER = Denied("the user name is not a device's: expected device-<id>", stranger=True)
_WRONG = Denied("the password is not the current token of this device")
_CLIENT_ID = Denied("the client id of a device must be its user name")
_ROTATED = Denied("no client has connected with the device's current token yet")
_NO_DEVICE = Denied("this device is not registered, or has no token")
_AWAY = Denied("the database does not respond", undecided=True)


class Decisions:
    """Decisions of this process. `form`: MQTT_TOPIC. `clock`: seconds, such as the event loop's."""

    def __init__(self, devices: KnownDevices, form: TopicFilter, clock: Callable[[], float]) -> None:
        self._devices = devices
        self._form = form
        self._failures = Window(60.0, clock)

    async def authenticate(self, username: str, password: str, client_id: str) -> Decision:
        """Decide whether the client may connect."""
        device_id = _device_id_of(username)
        if device_id is None:
            return _STRANGER
        given = read(password)
        if not isinstance(given, GivenToken) or given.device_id != device_id:
            return self._failed(username)
        try:
            device = await self._devices.find(device_id, self._max_age(username))
            if device is None or not is_same(given.hash, device.hash):
                return self._failed(username)
            if client_id != username:
                return _CLIENT_ID
            if not device.connected:
                await self._devices.note_connected(device)
        except RETRYABLE:
            return _AWAY
        return self._allowed(device)

    def _max_age(self, username: str) -> float:
        return FAILING_REMEMBERED_S if self._failures.count(username) >= MANY_FAILURES else REMEMBERED_S

    def _failed(self, username: str) -> Denied:
        if self._failures.add(username) == MANY_FAILURES:
            _log.warning("a device fails to authenticate at the broker", username=username, attempts=MANY_FAILURES)
        return _WRONG

    async def authorize(self, username: str, client_id: str, action: TopicAction, topic: str) -> Decision:
        """Decide whether a client that the broker has authenticated may perform the action now."""
        device_id = _device_id_of(username)
        if device_id is None:
            return _STRANGER
        if client_id != username:
            return _CLIENT_ID
        try:
            device = await self._with_current_token(device_id)
        except RETRYABLE:
            return _AWAY
        if isinstance(device, Denied):
            return device
        allowed = self._allowed(device)
        if action is TopicAction.PUBLISH and topic == allowed.topic:
            return allowed
        return Denied(f"{device_name(device_id)} may only publish to {allowed.topic}")

    async def _with_current_token(self, device_id: int) -> KnownDevice | Denied:
        """Return the device if a client has authenticated with its current token, or a denial.

        After a rotation the connected client still uses the former token. The first client that authenticates with the
        new token takes over the session, as a device has one client id.
        """
        device = await self._devices.find(device_id)
        if device is not None and not device.connected:
            device = await self._devices.find(device_id, 0)  # another process may have authenticated it since
        if device is None:
            return _NO_DEVICE
        return device if device.connected else _ROTATED

    def _allowed(self, device: KnownDevice) -> Allowed:
        return Allowed(self._form.topic(device.key))


def _device_id_of(username: str) -> int | None:
    device_id = device_id_of(username)
    return device_id if device_id is not None and device_id <= MAX_ID else None
