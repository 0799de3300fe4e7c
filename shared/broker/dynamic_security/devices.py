"""Brings the broker to where the database is, for some devices at a time."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from shared.broker import device_credentials as present
from shared.broker.reconciliation import Bring, Brought
from shared.broker.dynamic_security.differences import Known, differences
from shared.broker.dynamic_security.administration import Dynsec, administering
from shared.broker.dynamic_security.permissions import device_name, device_number
from shared.broker.dynamic_security.records import Command
from shared.errors import CommandRefused
from shared.postgres.connections import Connection
from shared.settings import MqttAddress, TopicFilter

BATCH = 100
"""Devices at a time."""
HOLD_S = 0.05
"""A message has as many commands as take about this long: the broker does nothing else meanwhile."""
_MOST_COMMANDS = 2 * BATCH
_LOCK = 0x64657669_62726F6B  # 'devi' 'brok'


class Carrier:
    """Sends commands, many in a message, and leaves the broker time for its other clients.

    Dynamic security writes all of its file after each command (Mosquitto 2.0) or each message (2.1). Where that takes
    longer than HOLD_S, a message takes up to twice as long as a single command; and the broker has as much time to
    itself before the next one.
    """

    def __init__(self, dynsec: Dynsec) -> None:
        self.dynsec = dynsec
        self._at_once = 1
        self._single_s = 0.0
        """How long a single command holds the broker; measured at the first one."""

    async def do(self, commands: Sequence[Command]) -> list[CommandRefused]:
        """Have the commands carried out in their order; return those that were refused. Raises BrokerError."""
        rest, refused = list(commands), []
        while rest:
            now, rest = rest[: self._at_once], rest[self._at_once :]
            began = time.monotonic()
            refused += await self.dynsec.do(now)
            held_s = max(time.monotonic() - began - self.dynsec.round_trip_s, 0.0001)
            self._learn(len(now), held_s)
            if rest and held_s > HOLD_S:
                await asyncio.sleep(held_s)
        return refused

    def _learn(self, commands: int, held_s: float) -> None:
        """Choose the length of the next message."""
        if commands == 1:
            self._single_s = held_s
        most_s = max(HOLD_S, 2 * self._single_s)
        if held_s > most_s:
            self._at_once = max(1, int(commands * most_s / held_s))
        else:
            self._at_once = min(max(2 * commands, self._at_once), _MOST_COMMANDS)


class ByCommands:
    """Tells the broker of devices by commands of dynamic security (MQTT_ADMIN_URL)."""

    batch = BATCH

    def __init__(self, address: MqttAddress, form: TopicFilter, secret: str) -> None:
        self._address = address
        self._form = form
        self._secret = secret

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[Bring]:
        """Gives what brings devices to the broker, over one connection. Raises BrokerError."""
        async with administering(self._address) as dynsec:
            carrier = Carrier(dynsec)

            async def tell(connection: Connection, numbers: Sequence[int]) -> Brought:
                return await bring(connection, carrier, numbers, self._form, self._secret)

            yield tell


async def bring(
    connection: Connection, carrier: Carrier, numbers: Sequence[int], form: TopicFilter, secret: str
) -> Brought:
    """Mends what differs of the devices. By whoever has the lock. Raises BrokerError."""
    known = await _known(carrier.dynsec, numbers)
    devices = await present.of(connection, numbers, secret)
    found = {number: differences(number, devices.get(number), known[number], form) for number in numbers}
    commands = [command for every in found.values() for difference in every for command in difference.commands]
    refused = {device_number(str(error.about)) or 0: error for error in await carrier.do(commands)}
    return Brought({number: every for number, every in found.items() if every}, refused)


async def _known(dynsec: Dynsec, numbers: Sequence[int]) -> dict[int, Known]:
    names = [device_name(number) for number in numbers]
    clients = await dynsec.ask([{"command": "getClient", "username": name} for name in names])
    roles = await dynsec.ask([{"command": "getRole", "rolename": name} for name in names])
    return {
        number: Known(client.data.client, role.data.role)
        for number, client, role in zip(numbers, clients, roles, strict=True)
    }


_TRY = "SELECT pg_try_advisory_lock(%s)"
_WAIT = "SELECT pg_advisory_lock(%s)"
_RELEASE = "SELECT pg_advisory_unlock(%s)"


@asynccontextmanager
async def locked(connection: Connection, *, wait: bool) -> AsyncIterator[bool]:
    """Lets one process of the cluster at a time tell the broker something; without `wait` it may not be ours.

    What it reads under the lock is not older than what another has told the broker before.
    """
    row = await (await connection.execute(_WAIT if wait else _TRY, (_LOCK,))).fetchone()
    held = wait or (row is not None and row[0])
    try:
        yield held
    finally:
        if held and not connection.closed:
            await connection.execute(_RELEASE, (_LOCK,))
