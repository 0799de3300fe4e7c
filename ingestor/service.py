"""The ingestor daemon: wires session, collector and writer, and stops them in order.

On SIGTERM or SIGINT it stops reading, stores and acknowledges the collected messages, and disconnects.
"""

import asyncio
import socket
from functools import partial
from pathlib import Path

import structlog

from ingestor.collector import Collector
from ingestor.delivery.journal import Journal
from ingestor.devices import Devices
from ingestor.metrics import IngestMetrics
from ingestor.session.broker_disk import BrokerDisk
from ingestor.session.broker_figures import BrokerFiguresReader
from ingestor.session.processes import ALONE, SHARE, Share
from ingestor.session.session import Session
from ingestor.session.subscriptions import Subscriptions
from ingestor.status import Status
from ingestor.storing.database_connection import DatabaseConnection
from ingestor.storing.sampling import Sampler
from ingestor.storing.writer import Writer
from shared.readings.announce import Interest
from shared.readings.clock import Clock
from shared.readings.store import prepare
from shared.serving.closed import telemetry_access
from shared.serving.service import listen, serve_telemetry
from shared.serving.telemetry import Health
from shared.settings import Settings
from shared.status.process import Identity, Kind
from shared.status.reporting import reported

PROBE_S = 5.0
"""Interval of database checks while no messages arrive."""
PROBE_AT_LEAST_S = 30.0
"""Interval of checks of the database's schema version while batches arrive."""
STOP_TIMEOUT_S = 15.0
"""Time after a signal in which messages are stored. The broker redelivers those that remain unacknowledged."""

_log = structlog.get_logger()


async def ingest(
    settings: Settings, stop: asyncio.Event, listener: socket.socket | None = None, share: Share = ALONE
) -> None:
    """Run the ingestor until `stop` is set.

    `listener`: socket for health and metrics, instead of the configured port.

    At startup it waits up to START_TIMEOUT for the servers, later without limit. Raises DevicestatError if the database
    or the broker is unusable at startup, and SessionTakenOver if another ingestor uses the client id.
    """
    await Ingestor(settings, Session, share.clock(), Interest()).run(stop, listener or telemetry_listener(settings))


def telemetry_listener(settings: Settings) -> socket.socket | None:
    """Listen on the port for health and metrics; None if it is turned off. Raises LocalError if the port is taken."""
    port = settings.ingestor_metrics_port
    return listen(settings.http_host, port, "DEVICESTAT_INGESTOR_METRICS_PORT") if port else None


class Ingestor:
    """The wired parts. `session`: constructs the session. `clock`: gives the times of receipt."""

    def __init__(
        self, settings: Settings, session: type[Session] | partial[Session], clock: Clock, interest: Interest
    ) -> None:
        self._settings = settings
        self.health = Health("broker", "database")
        self.metrics = IngestMetrics()
        disk = None if settings.broker_data_dir is None else BrokerDisk(Path(settings.broker_data_dir))
        if disk is not None:
            self.metrics.registry.register(disk)
        is_shared = settings.mqtt_topic.pattern.startswith(SHARE)
        journal = Journal(settings.mqtt_client_id, may_hand_over=is_shared)
        devices = Devices(register=settings.unknown_devices == "register")
        topic_filter = settings.mqtt_topic
        sampler = Sampler(settings.dead_letters_per_minute, topic_filter.plain)
        self.database = DatabaseConnection(settings.database, self.health, prepare, devices.listen, interest.listen)
        self.writer = Writer(self.database, journal, devices, interest, sampler, self.metrics, topic_filter)
        self.collector = Collector(settings, devices, journal, self.metrics.counts, clock)
        subscriptions = Subscriptions(self.database, settings.mqtt_client_id)
        self.session = session(settings, self.collector, self.writer, subscriptions, self.metrics.counts, self.health)
        self.figures = BrokerFiguresReader(
            settings.broker, settings.mqtt_window, is_wanted=lambda: self.session.is_connected
        )
        self.metrics.registry.register(self.figures)
        self.metrics.show_probe(lambda: self.session.probe_is_forbidden)
        self._access = telemetry_access(settings)
        self._status = Status(
            self.health,
            self.metrics,
            journal,
            is_paused=lambda: self.collector.is_paused,
            disk_free=lambda: disk.free_bytes() if disk else None,
            broker=self.figures.report,
        )

    async def run(self, stop: asyncio.Event, listener: socket.socket | None = None) -> None:
        """Run until `stop` is set or the session ends. Raises what any part raises.

        `listener`: socket for health and metrics.
        """
        try:
            if not await self.database.open(self._settings, stop):
                return
            process = Identity.own(Kind.INGESTOR, self._settings.mqtt_client_id)
            reports = reported(process, self.database.between_attempts, self.health, self._status.document)
            async with reports, asyncio.TaskGroup() as group:
                session = group.create_task(self.session.run(), name="session")
                writing = group.create_task(self._write(), name="writer")
                if listener is not None:
                    served = (self.health, self.metrics.registry, listener, stop)
                    telemetry = serve_telemetry(*served, self._access)
                    group.create_task(telemetry, name="telemetry")
                figures = group.create_task(self.figures.run(), name="broker figures")
                group.create_task(self._stop(stop, session, writing, figures), name="stop")
        finally:
            await self.database.close()

    async def _write(self) -> None:
        now = asyncio.get_running_loop().time
        probed_at = now()
        while True:
            try:
                async with asyncio.timeout(PROBE_S):
                    batch = await self.collector.next()
            except TimeoutError:
                batch = None
            if batch is None or now() - probed_at > PROBE_AT_LEAST_S:
                await self.database.probe()
                probed_at = now()
            if batch is None:
                continue
            await self.writer.write(batch)
            self.collector.done(batch)

    async def _stop(
        self,
        stop: asyncio.Event,
        session: "asyncio.Task[None]",
        writing: "asyncio.Task[None]",
        figures: "asyncio.Task[None]",
    ) -> None:
        signalled = asyncio.create_task(stop.wait(), name="signal")
        await asyncio.wait({signalled, session}, return_when=asyncio.FIRST_COMPLETED)
        signalled.cancel()
        figures.cancel()
        if stop.is_set():
            _log.info("stopping: storing the collected messages")
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.collector.stop()
        except TimeoutError:
            _log.warning("stopped before all messages were stored: the broker will redeliver the rest")
        writing.cancel()
        await self.session.disconnect()
        session.cancel()
