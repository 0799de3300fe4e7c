"""A broker for each test, and the report at the end of the run."""

from collections.abc import AsyncIterator, Callable

import pytest

from shared.postgres.connections import Connection
from shared.settings import Settings
from tests.brokers import lab as labs
from tests.brokers.bench import Bench
from tests.brokers.lab import Entry, Lab
from tests.brokers.report import Report
from tests.brokers.stream import add_devices
from tests.brokers.tap import tapped
from tests.ingestion import IngestorProcess

REPORT = Report()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on each broker (a hook of pytest)."""
    if "entry" in metafunc.fixturenames:
        named = labs.entries()
        metafunc.parametrize("entry", named, ids=[entry.name for entry in named])
    if "asking" in metafunc.fixturenames:
        named = [entry for entry in labs.entries() if entry.asks is not None]
        metafunc.parametrize("asking", named, ids=[entry.name for entry in named])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables (a hook of pytest)."""
    for line in REPORT.lines():
        terminalreporter.write_line(line)


@pytest.fixture
def report() -> Report:
    """The report of the run. Each result is written immediately, so an interrupted run has a report."""
    return REPORT


@pytest.fixture
async def lab(entry: Entry) -> AsyncIterator[Lab]:
    """A new instance of the broker."""
    async with labs.running(entry) as running:
        yield running


@pytest.fixture
async def bench(
    lab: Lab,
    report: Report,
    database: Connection,
    make_settings: Callable[..., Settings],
    start_ingestor: Callable[..., IngestorProcess],
) -> AsyncIterator[Bench]:
    """A bench with the broker, and a database with the devices of the plans."""
    await add_devices(database)
    async with tapped(*lab.address) as tap:
        yield Bench(lab, tap, report, database, make_settings, start_ingestor)
