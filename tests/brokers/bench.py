"""Bench of a fault test: a broker, a database, ingestors and a stream; and the limits for a broker."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from shared.postgres.connections import Connection
from shared.settings import Settings
from tests.brokers.client import BrokerStandsStill
from tests.brokers.lab import Lab
from tests.brokers.plans import Plan
from tests.brokers.report import Report
from tests.brokers.stream import Beside, Count, Stream, beside, count
from tests.brokers.tap import Tap
from tests.ingestion import IngestorProcess
from tests.services import is_ready
from tests.waiting import HANG_S, eventually

FAULTS = "Readings lost / stored twice, of the readings that the broker has acknowledged"
LONGEST_S = 0.5
"""Time between readiness of the ingestor and the fault."""


class Bench:
    """Runs a stream during a fault, and counts readings. Ingestors connect to `url`, the broker through `tap`."""

    def __init__(
        self,
        lab: Lab,
        tap: Tap,
        report: Report,
        database: Connection,
        make_settings: Callable[..., Settings],
        start_ingestor: Callable[..., IngestorProcess],
    ) -> None:
        self.lab = lab
        self.tap = tap
        self.url = lab.url_at(tap.port)
        self.report = report
        self.database = database
        self.chance = random.Random(7)
        self._make_settings = make_settings
        self._start = start_ingestor
        self._settings: Settings | None = None
        self._last: tuple[IngestorProcess, tuple[object, ...]] | None = None

    def start_ingestor(self, *arguments: object) -> IngestorProcess:
        """Start an ingestor with the session and the ports of the previous one."""
        if self._settings is None:
            self._settings = self._make_settings(mqtt_url=self.url)
        process = self._start(self._settings, *arguments)
        self._last = process, arguments
        return process

    async def until_ready(self, process: IngestorProcess) -> None:
        """Wait until the ingestor is ready. Raises AssertionError with the parts that are not."""

        async def ready() -> bool:
            assert process.process.poll() is None, process.logged
            return await is_ready(process.port)

        try:
            await eventually(ready, bool, HANG_S)
        except AssertionError:
            raise AssertionError(f"not ready again: {process.logged[-1500:]}") from None

    async def some_time(self) -> None:
        """Wait for a random time before the fault."""
        await asyncio.sleep(self.chance.uniform(0, LONGEST_S))

    @asynccontextmanager
    async def stream(
        self, scenario: str, plan: Plan, *, broker_dies: bool = False
    ) -> AsyncIterator[tuple[Stream, Beside]]:
        """Publish during the block, then count, record and judge.

        A broker that stalls by itself is not judged.
        """
        async with beside(self.lab) as other:
            stream = Stream(self.lab, plan)
            stream.start()
            try:
                yield stream, other
                await stream.halt()
            except BrokerStandsStill as exc:
                self.record(scenario, f"**the broker {exc}**")
                return
            except AssertionError as exc:
                self.record(scenario, str(exc).split(":")[0])
                raise
            finally:
                await stream.cancel()
            found = await self._count(scenario, stream, other)
        self.record(scenario, found)
        self._judge(found, broker_dies)

    async def _count(self, scenario: str, stream: Stream, other: Beside) -> Count:
        found = await count(self.database, stream, other, self.tap)
        if not found.lost:
            return found
        self.record(scenario, f"{found.lost:,} not delivered before the next connection")
        await self._connect_again()
        return await count(self.database, stream, other, self.tap)

    async def _connect_again(self) -> None:
        """Reconnect, because a broker may redeliver only on a new connection."""
        assert self._last is not None
        process, arguments = self._last
        await process.end()
        await self.until_ready(self.start_ingestor(*arguments))

    def record(self, scenario: str, found: object) -> None:
        """Write the result to the report."""
        self.report.add(FAULTS, scenario, self.lab.entry.name, found)
        self.report.save()

    def _logged(self) -> str:
        return self._last[0].logged[-1500:] if self._last else ""

    def _judge(self, found: Count, broker_dies: bool) -> None:
        assert found.published > 0
        assert found.broken == 0, f"{found}, missing {found.missing}\n{self._logged()}"
        assert found.twice == 0 or broker_dies or not self.lab.entry.exact, str(found)
