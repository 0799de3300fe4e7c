"""Brings the broker to where the database is, for some devices at a time."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from shared.broker.device_credentials import credentials_of
from shared.broker.dynamic_security.administration import Dynsec, administering
from shared.broker.dynamic_security.differences import Known, differences
from shared.broker.dynamic_security.records import Command
from shared.broker.names import device_name, device_number
from shared.broker.reconciliation import Reconcile, Reconciled
from shared.errors import CommandRefused
from shared.postgres.connections import Connection
from shared.settings import MqttAddress, TopicFilter

BATCH = 100
"""Devices at a time."""
HOLD_S = 0.05
"""A message has as many commands as take about this long: the broker does nothing else meanwhile."""
_MOST_COMMANDS = 2 * BATCH


class CommandSender:
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
    async def open(self) -> AsyncIterator[Reconcile]:
        """Gives what brings devices to the broker, over one connection. Raises BrokerError."""
        async with administering(self._address) as dynsec:
            sender = CommandSender(dynsec)

            async def tell(connection: Connection, numbers: Sequence[int]) -> Reconciled:
                return await reconcile(connection, sender, numbers, self._form, self._secret)

            yield tell


async def reconcile(
    connection: Connection, sender: CommandSender, numbers: Sequence[int], form: TopicFilter, secret: str
) -> Reconciled:
    """Mends what differs of the devices. By whoever has the lock. Raises BrokerError."""
    known = await _known(sender.dynsec, numbers)
    devices = await credentials_of(connection, numbers, secret)
    found = {number: differences(number, devices.get(number), known[number], form) for number in numbers}
    commands = [command for every in found.values() for difference in every for command in difference.commands]
    refused = {device_number(str(error.about)) or 0: error for error in await sender.do(commands)}
    return Reconciled({number: every for number, every in found.items() if every}, refused)


async def _known(dynsec: Dynsec, numbers: Sequence[int]) -> dict[int, Known]:
    names = [device_name(number) for number in numbers]
    clients = await dynsec.ask([{"command": "getClient", "username": name} for name in names])
    roles = await dynsec.ask([{"command": "getRole", "rolename": name} for name in names])
    return {
        number: Known(client.data.client, role.data.role)
        for number, client, role in zip(numbers, clients, roles, strict=True)
    }
