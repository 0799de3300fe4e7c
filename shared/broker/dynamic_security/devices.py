"""Reconciles clients and roles of some devices with the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from shared.broker.device_credentials import credentials_of
from shared.broker.dynamic_security.administration import Dynsec, administering
from shared.broker.dynamic_security.differences import Known, differences
from shared.broker.dynamic_security.records import Command
from shared.broker.names import device_id_of, device_name
from shared.broker.reconciliation import Reconcile, Reconciled
from shared.errors import CommandRefused
from shared.postgres.connections import Connection
from shared.settings import MqttAddress, TopicFilter

BATCH = 100
"""Devices for each call."""
HOLD_S = 0.05
"""Target time for the commands of one message: the broker serves no other client meanwhile."""
_MOST_COMMANDS = 2 * BATCH


class CommandSender:
    """Sends commands, several in a message, and leaves the broker time for its other clients.

    Dynamic security writes its whole file after each command (Mosquitto 2.0) or each message (2.1). If that takes
    longer than HOLD_S, a message may take twice as long as a single command, and a pause as long follows it.
    """

    def __init__(self, dynsec: Dynsec) -> None:
        self.dynsec = dynsec
        self._per_message = 1
        self._single_s = 0.0
        """Time that a single command takes, in seconds; measured at the first one."""

    async def do(self, commands: Sequence[Command]) -> list[CommandRefused]:
        """Send the commands in order; return those that were refused. Raises BrokerError."""
        rest, refused = list(commands), []
        while rest:
            now, rest = rest[: self._per_message], rest[self._per_message :]
            began = time.monotonic()
            refused += await self.dynsec.do(now)
            held_s = max(time.monotonic() - began - self.dynsec.round_trip_s, 0.0001)
            self._learn(len(now), held_s)
            if rest and held_s > HOLD_S:
                await asyncio.sleep(held_s)
        return refused

    def _learn(self, commands: int, held_s: float) -> None:
        """Set the number of commands in the next message."""
        if commands == 1:
            self._single_s = held_s
        most_s = max(HOLD_S, 2 * self._single_s)
        if held_s > most_s:
            self._per_message = max(1, int(commands * most_s / held_s))
        else:
            self._per_message = min(max(2 * commands, self._per_message), _MOST_COMMANDS)


class ByCommands:
    """Reconciliation by commands of dynamic security (MQTT_ADMIN_URL)."""

    batch = BATCH

    def __init__(self, address: MqttAddress, form: TopicFilter, secret: str) -> None:
        self._address = address
        self._form = form
        self._secret = secret

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Reconcile]:
        """Return a function that reconciles devices over one connection. Raises BrokerError."""
        async with administering(self._address) as dynsec:
            sender = CommandSender(dynsec)

            async def reconcile_some(connection: Connection, device_ids: Sequence[int]) -> Reconciled:
                return await reconcile(connection, sender, device_ids, self._form, self._secret)

            yield reconcile_some


async def reconcile(
    connection: Connection, sender: CommandSender, device_ids: Sequence[int], form: TopicFilter, secret: str
) -> Reconciled:
    """Remove the differences of the devices. The caller holds the lock. Raises BrokerError."""
    known = await _known(sender.dynsec, device_ids)
    devices = await credentials_of(connection, device_ids, secret)
    found = {
        device_id: differences(device_id, devices.get(device_id), known[device_id], form) for device_id in device_ids
    }
    commands = [command for every in found.values() for difference in every for command in difference.commands]
    refused = {device_id_of(str(error.about)) or 0: error for error in await sender.do(commands)}
    return Reconciled({device_id: every for device_id, every in found.items() if every}, refused)


async def _known(dynsec: Dynsec, device_ids: Sequence[int]) -> dict[int, Known]:
    names = [device_name(device_id) for device_id in device_ids]
    clients = await dynsec.ask([{"command": "getClient", "username": name} for name in names])
    roles = await dynsec.ask([{"command": "getRole", "rolename": name} for name in names])
    return {
        device_id: Known(client.data.client, role.data.role)
        for device_id, client, role in zip(device_ids, clients, roles, strict=True)
    }
