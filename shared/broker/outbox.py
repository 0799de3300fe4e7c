"""What the broker is still to be told, as rows of the database: in the transaction that changes a device, and after it.

A row says that a device has changed. Whoever takes it looks up how the device is by then, so that a row too many, or
one that was already carried out by someone who was killed, does nothing.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from enum import IntEnum
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Gauge

from shared.backoff import backoff
from shared.broker.by_file import ByFile
from shared.broker.device_credentials import device_secret
from shared.broker.dynamic_security.devices import ByCommands
from shared.broker.names import rules_of
from shared.broker.reconciliation import Reconcile, Target, locked
from shared.errors import BrokerError, CommandRefused
from shared.postgres.connections import Connection
from shared.postgres.listening import listen
from shared.settings import Settings, parse_topic_filter

CHANNEL = "broker_outbox"
"""The database notifies it when there are new rows."""
POLL_S = 5.0
"""Without a NOTIFY it is looked so often, in case another process that had the lock is gone."""
RETRY_CAP_S = 5.0
"""A broker that is away is tried again after no more than this."""
MOST_REFUSED = 1_000
"""Once the broker has refused as many devices, the others wait until these are tried again."""
_log = structlog.get_logger()


class Change(IntEnum):
    """Why a device is in the outbox. The smaller number is told to the broker first."""

    REVOCATION = 0
    """Its token was rotated, or it was deleted: whoever is connected with the former token is cut off."""
    REGISTRATION = 1
    """It is new."""


_QUEUE = "INSERT INTO broker_outbox (device_id, turn) SELECT device_id, %s FROM unnest(%s::bigint[]) AS device_id"


async def queue(connection: Connection, device_ids: Sequence[int], change: Change) -> None:
    """Have the broker told of the devices, once the transaction that the caller has open is committed."""
    await connection.execute(_QUEUE, (int(change), list(device_ids)))


def target(settings: Settings) -> Target:
    """How the settings have the broker told. Raises SettingsError."""
    if settings.broker_passwords is not None:
        return by_file(settings)
    return ByCommands(settings.broker_admin, parse_topic_filter(settings.mqtt_topic), device_secret(settings))


def by_file(settings: Settings) -> ByFile:
    """The password file of BROKER_PASSWORDS, which is set. Raises SettingsError."""
    assert settings.broker_passwords is not None
    return ByFile(Path(settings.broker_passwords), settings.broker, device_secret(settings), rules_of(settings))


class Outbox:
    """Tells the broker what waits. Any number of processes have one; they take turns."""

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        self._url = settings.database
        self._target = target(settings)
        self._waiting = Gauge(
            "devicestat_broker_outbox_waiting", "Changes of devices that the broker is not told yet", registry=registry
        )
        self._fault: str | None = None
        self._telling: list[int] = []
        """The devices that the broker is being told of."""

    async def run(self) -> None:
        """Run until cancelled: an unreachable database or broker is tried again."""
        await listen(
            self._url,
            "broker outbox",
            [CHANNEL],
            self._attend,
            prepare=self._tell_again,
            failure_event="the broker's outbox cannot be read: it is tried again",
        )

    async def _tell_again(self, connection: Connection) -> None:
        """Have the broker told of the devices of which it was being told when the last connection was lost.

        The lock was lost with it. Another process may have told the broker of a later state, and then we of ours.
        """
        if self._telling:
            await queue(connection, self._telling, Change.REVOCATION)
            self._telling = []

    async def _attend(self, connection: Connection) -> None:
        waits = backoff(cap=RETRY_CAP_S)
        while True:
            try:
                await unless_cancelled(self._empty(connection))
            except BrokerError as error:
                self._failed(error)
                await self._count(connection)
                await asyncio.sleep(next(waits))
            else:
                waits = backoff(cap=RETRY_CAP_S)
                async for _ in connection.notifies(timeout=POLL_S, stop_after=1):
                    pass

    async def _empty(self, connection: Connection) -> None:
        """Returns when nothing waits, or another process is at it. Raises BrokerError."""
        async with locked(connection, wait=False) as ours:
            if await self._count(connection) and ours:
                async with self._target.open() as reconcile:
                    await self._take_all(connection, reconcile)
                self._succeeded()

    async def _take_all(self, connection: Connection, reconcile: Reconcile) -> None:
        """Raises CommandRefused at the end where something was refused, which is then tried again later."""
        refused: dict[int, CommandRefused] = {}
        kept: list[int] = []
        while rows := await (await connection.execute(_NEXT, (kept, self._target.batch))).fetchall():
            self._telling = sorted({row[1] for row in rows})
            reconciled = await reconcile(connection, self._telling)
            refused |= reconciled.refused
            _warn(reconciled.lost)
            kept += [number for number, device in rows if device in reconciled.refused]
            await connection.execute(_DONE, ([number for number, device in rows if device not in reconciled.refused],))
            self._telling = []
            await self._count(connection)
            if len(kept) >= MOST_REFUSED:
                break
        for error in refused.values():
            raise error

    async def _count(self, connection: Connection) -> int:
        count = await waiting(connection)
        self._waiting.set(count)
        return count

    def _failed(self, error: BrokerError) -> None:
        if self._fault is None:
            _log.warning("the broker cannot be told of devices: it is tried again", reason=str(error))
        self._fault = str(error)

    def _succeeded(self) -> None:
        if self._fault is not None:
            _log.info("the broker is told of devices again")
        self._fault = None


async def unless_cancelled(work: Coroutine[None, None, None]) -> None:
    """Does it; if we are cancelled meanwhile, it is cancelled and has ended, and we are.

    In a task of its own, because a cancel can be lost in it: aiomqtt waits with asyncio.wait_for, which on Python 3.11
    takes a cancel for the end of what it waits for, where both come at once.
    """
    task = asyncio.create_task(work, name="tell the broker")
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        raise


_NEXT = "SELECT number, device_id FROM broker_outbox WHERE number <> ALL(%s) ORDER BY turn, number LIMIT %s"
_DONE = "DELETE FROM broker_outbox WHERE number = ANY(%s)"
_COUNT = "SELECT count(*) FROM broker_outbox"


async def waiting(connection: Connection) -> int:
    """How many changes the broker is not told yet."""
    row = await (await connection.execute(_COUNT)).fetchone()
    assert row is not None, "an aggregate has one row"
    count: int = row[0]
    return count


def _warn(devices: Sequence[int]) -> None:
    for number in devices:
        _log.warning(
            "the device's token cannot be made again from DEVICESTAT_DEVICE_SECRET, and the broker does not have it: "
            "give the device a new one",
            device=number,
            by=f"POST /devices/{number}/token",
        )


async def tell_broker(settings: Settings, registry: CollectorRegistry) -> None:
    """Keeps the broker told, for ever, if the settings say who administers it. Raises SettingsError."""
    if settings.tells_broker:
        await Outbox(settings, registry).run()
