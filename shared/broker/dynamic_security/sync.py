"""Comparison and reconciliation of the whole broker with the database (`devicestat broker sync`).

Clients and roles that belong neither to devices nor to the ingestor are not changed: a broker may have other users.
"""

from collections.abc import AsyncIterator, Iterator

import aiomqtt
import msgspec
from aiomqtt.exceptions import MqttConnectError

from shared.broker.client import mqtt_client
from shared.broker.device_credentials import all_credentials, device_secret
from shared.broker.dynamic_security.administration import Dynsec
from shared.broker.dynamic_security.devices import BATCH, CommandSender, reconcile
from shared.broker.dynamic_security.differences import Known, change_role, create_role, differences
from shared.broker.dynamic_security.permissions import DEFAULT_ACCESS, INGESTOR_ROLE, ingestor_role
from shared.broker.dynamic_security.records import Command, DynsecClient, DynsecRole
from shared.broker.names import device_id_of
from shared.broker.reconciliation import Difference, locked
from shared.errors import CommandRefused, SettingsError
from shared.postgres.connections import Connection
from shared.settings import MqttAddress, Settings


class Comparison(msgspec.Struct, frozen=True):
    """All differences: those of the devices by id, and those of the ingestor and the default access by name."""

    devices: dict[int, list[Difference]]
    others: dict[str, list[Difference]]

    @property
    def count(self) -> int:
        """Number of devices and others that differ."""
        return len(self.devices) + len(self.others)


class Outcome(msgspec.Struct, frozen=True):
    """The result for one entry that differed. `fault`: why it still differs; None if it does not."""

    what: str
    differences: tuple[str, ...]
    fault: str | None = None


def ingestor_user(settings: Settings) -> tuple[str, str]:
    """Return user and password of MQTT_URL.

    Raises SettingsError if these or MQTT_CLIENT_ID cannot be the ingestor's.
    """
    address = settings.broker
    if address.username is None or address.password is None:
        raise SettingsError([f"DEVICESTAT_MQTT_URL has no user and password: {_USER}"])
    if address.username == settings.broker_admin.username:
        raise SettingsError([f"DEVICESTAT_MQTT_URL has the user of DEVICESTAT_MQTT_ADMIN_URL: {_USER}"])
    for name in (address.username, settings.broker_admin.username):
        if device_id_of(name or "") is not None:
            raise SettingsError([f"{name!r} in DEVICESTAT_MQTT_URL or DEVICESTAT_MQTT_ADMIN_URL is a device's name"])
    if device_id_of(settings.mqtt_client_id) is not None:
        raise SettingsError([f"DEVICESTAT_MQTT_CLIENT_ID is {settings.mqtt_client_id!r}, a device's client id"])
    return address.username, address.password


_USER = "the ingestor needs a user of its own, as in mqtts://ingestor:password@host:8883"


async def compare(connection: Connection, dynsec: Dynsec, settings: Settings) -> Comparison:
    """Return the differences between broker and database. Raises BrokerError."""
    name, _ = ingestor_user(settings)
    known: dict[int, Known] = {}
    user: DynsecClient | None = None
    role: DynsecRole | None = None
    async for client in dynsec.clients():
        if (device_id := device_id_of(client.username)) is not None:
            known[device_id] = Known(client)
        elif client.username == name:
            user = client
    async for found in dynsec.roles():
        if (device_id := device_id_of(found.rolename)) is not None:
            known[device_id] = msgspec.structs.replace(known.get(device_id, Known()), role=found)
        elif found.rolename == INGESTOR_ROLE:
            role = found
    others = {
        "default access": list(_of_default_access(await dynsec.default_access())),
        f"role {INGESTOR_ROLE}": list(_of_ingestor_role(role, settings)),
        f"client {name}": [one async for one in _of_ingestor(user, settings)],
    }
    devices = await _of_devices(connection, known, settings)
    return Comparison(devices, {what: every for what, every in others.items() if every})


async def _of_devices(
    connection: Connection, known: dict[int, Known], settings: Settings
) -> dict[int, list[Difference]]:
    form = settings.mqtt_topic
    found: dict[int, list[Difference]] = {}
    async for device in all_credentials(connection, device_secret(settings)):
        if every := differences(device.id, device, known.pop(device.id, Known()), form):
            found[device.id] = every
    return found | {
        device_id: differences(device_id, None, superfluous, form) for device_id, superfluous in known.items()
    }


def _of_default_access(known: dict[str, bool]) -> Iterator[Difference]:
    if any(known.get(access.acltype) != access.allow for access in DEFAULT_ACCESS):
        acls = msgspec.to_builtins(DEFAULT_ACCESS)
        yield Difference("is not closed", ({"command": "setDefaultACLAccess", "acls": acls},))


def _of_ingestor_role(known: DynsecRole | None, settings: Settings) -> Iterator[Difference]:
    role = ingestor_role(settings.mqtt_topic)
    if known is None:
        yield Difference("is missing", (create_role(role),))
    elif not known.allows_the_same(role):
        yield Difference("allows something else", (change_role(role),))


async def _of_ingestor(known: DynsecClient | None, settings: Settings) -> AsyncIterator[Difference]:
    name, password = ingestor_user(settings)
    about = {"username": name}
    roles = [{"rolename": INGESTOR_ROLE}]
    if known is None:
        yield Difference("is missing", ({"command": "createClient", **about, "password": password, "roles": roles},))
        return
    if INGESTOR_ROLE not in known.rolenames:
        yield Difference(
            f"does not have the role {INGESTOR_ROLE}",
            ({"command": "addClientRole", **about, "rolename": INGESTOR_ROLE},),
        )
    if known.clientid:  # each process of the ingestor has its own, and so has the doctor
        yield Difference("is bound to one client id", ({"command": "modifyClient", **about, "clientid": ""},))
    if known.disabled:
        yield Difference("is disabled", ({"command": "enableClient", **about},))
    if (known.clientid or known.disabled) or await _is_refused(settings.broker):
        set_password: Command = {"command": "setClientPassword", **about, "password": password}
        yield Difference("may have a password other than that in DEVICESTAT_MQTT_URL", (set_password,))


async def _is_refused(address: MqttAddress) -> bool:
    """Whether the broker refuses the login: the password on the broker cannot be read."""
    try:
        async with mqtt_client(address, "sync"):
            return False
    except MqttConnectError:
        return True
    except aiomqtt.MqttError:  # MQTT_URL may be unreachable from here
        return False


async def mend(
    connection: Connection, dynsec: Dynsec, settings: Settings, comparison: Comparison
) -> AsyncIterator[Outcome]:
    """Remove the differences; return the outcome of each entry. Raises BrokerError."""
    sender = CommandSender(dynsec)
    for what, every in comparison.others.items():
        refused = await sender.do([command for one in every for command in one.commands])
        yield Outcome(what, tuple(one.what for one in every), str(refused[0]) if refused else None)
    device_ids = sorted(comparison.devices)
    form, secret = settings.mqtt_topic, device_secret(settings)
    for start in range(0, len(device_ids), BATCH):
        async with locked(connection, wait=True):
            # Compared again under the lock: a device may have changed since the first comparison.
            reconciled = await reconcile(connection, sender, device_ids[start : start + BATCH], form, secret)
        for device_id, found in reconciled.found.items():
            yield _outcome(device_id, found, reconciled.refused.get(device_id))


def _outcome(device_id: int, found: list[Difference], refused: CommandRefused | None) -> Outcome:
    fault = str(refused) if refused else None
    if any(one.lost for one in found):
        fault = f"POST /devices/{device_id}/token gives it a new one"
    return Outcome(f"device {device_id}", tuple(one.what for one in found), fault)
