"""The broker's outbox: changes of devices that are not applied to the broker yet, as rows of the database.

The transaction that changes a device adds a row with the device's id and no state. The consumer applies the
device's current state, so applying a row twice is harmless.
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
from shared.settings import Settings

CHANNEL = "broker_outbox"
"""Channel of the NOTIFY for new rows."""
POLL_S = 5.0
"""Interval of polls without a NOTIFY, in case the process that held the lock is gone."""
RETRY_CAP_S = 5.0
"""Longest delay before an unreachable broker is tried again."""
MOST_REFUSED = 1_000
"""Refused devices after which a pass ends; the others wait for the retry."""
_log = structlog.get_logger()


class Change(IntEnum):
    """Why a device is in the outbox. Smaller values are applied first."""

    REVOCATION = 0
    """Its token was rotated, or it was deleted: a client with the former token is disconnected."""
    REGISTRATION = 1
    """It was registered."""


_QUEUE = "INSERT INTO broker_outbox (device_id, turn) SELECT device_id, %s FROM unnest(%s::bigint[]) AS device_id"


async def queue(connection: Connection, device_ids: Sequence[int], change: Change) -> None:
    """Add the devices to the outbox, in the caller's transaction."""
    await connection.execute(_QUEUE, (int(change), list(device_ids)))


def target(settings: Settings) -> Target:
    """Return the configured way to reconcile the broker. Raises SettingsError."""
    if settings.broker_passwords is not None:
        return by_file(settings)
    return ByCommands(settings.broker_admin, settings.mqtt_topic, device_secret(settings))


def by_file(settings: Settings) -> ByFile:
    """Return the reconciliation by BROKER_PASSWORDS, which must be set. Raises SettingsError."""
    assert settings.broker_passwords is not None
    return ByFile(Path(settings.broker_passwords), settings.broker, device_secret(settings), rules_of(settings))


class Outbox:
    """Applies the outbox to the broker. Several processes may run one; a lock lets one at a time work."""

    def __init__(self, url: str, target: Target, registry: CollectorRegistry) -> None:
        self._url = url
        self._target = target
        self._waiting = Gauge(
            "devicestat_broker_outbox_waiting",
            "Changes of devices that are not applied to the broker yet",
            registry=registry,
        )
        self._fault: str | None = None
        self._in_progress: list[int] = []
        """Ids of the devices that are being reconciled."""

    async def run(self) -> None:
        """Run until cancelled: an unreachable database or broker is tried again."""
        await listen(
            self._url,
            "broker outbox",
            [CHANNEL],
            self._attend,
            prepare=self._queue_interrupted,
            failure_event="cannot read the broker's outbox; retrying",
        )

    async def _queue_interrupted(self, connection: Connection) -> None:
        """Queue the devices again that were being reconciled when the last connection was lost.

        The lock was lost with it, so this process may have overwritten a newer state from another process.
        """
        if self._in_progress:
            await queue(connection, self._in_progress, Change.REVOCATION)
            self._in_progress = []

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
        """Apply all rows; return immediately if another process holds the lock. Raises BrokerError."""
        async with locked(connection, wait=False) as ours:
            if await self._count(connection) and ours:
                async with self._target.open() as reconcile:
                    await self._take_all(connection, reconcile)
                self._succeeded()

    async def _take_all(self, connection: Connection, reconcile: Reconcile) -> None:
        """Apply all rows. Raises CommandRefused at the end if a command was refused; its row stays for a retry."""
        refused: dict[int, CommandRefused] = {}
        kept: list[int] = []
        while rows := await (await connection.execute(_NEXT, (kept, self._target.batch))).fetchall():
            self._in_progress = sorted({row[1] for row in rows})
            reconciled = await reconcile(connection, self._in_progress)
            refused |= reconciled.refused
            _warn(reconciled.lost)
            kept += [number for number, device in rows if device in reconciled.refused]
            await connection.execute(_DONE, ([number for number, device in rows if device not in reconciled.refused],))
            self._in_progress = []
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
            _log.warning("cannot update the devices on the broker; retrying", reason=str(error))
        self._fault = str(error)

    def _succeeded(self) -> None:
        if self._fault is not None:
            _log.info("the devices on the broker are updated again")
        self._fault = None


async def unless_cancelled(work: Coroutine[None, None, None]) -> None:
    """Run the work in a task. If cancelled, cancel the task, wait for its end and raise CancelledError.

    Without the task a cancellation can be lost: aiomqtt uses asyncio.wait_for, which on Python 3.11 returns the result
    instead of raising CancelledError if both happen in the same iteration of the event loop.
    """
    task = asyncio.create_task(work, name="broker outbox pass")
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
    """Return the number of rows in the outbox."""
    row = await (await connection.execute(_COUNT)).fetchone()
    assert row is not None, "an aggregate has one row"
    count: int = row[0]
    return count


def _warn(devices: Sequence[int]) -> None:
    for number in devices:
        _log.warning(
            "the broker lacks the device's token, which cannot be derived from DEVICESTAT_DEVICE_SECRET: "
            "give the device a new one",
            device=number,
            by=f"POST /devices/{number}/token",
        )


async def apply_outbox(settings: Settings, registry: CollectorRegistry) -> None:
    """Apply the outbox until cancelled, if the settings name a way to do so. Raises SettingsError."""
    if settings.tells_broker:
        await Outbox(settings.database, target(settings), registry).run()
