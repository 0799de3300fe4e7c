"""Behaviour of each broker, for the table in docs/brokers.md."""

import operator
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from tests.brokers import probe
from tests.brokers.bench import Bench
from tests.brokers.client import connected
from tests.brokers.lab import Lab
from tests.brokers.plans import differing
from tests.brokers.report import Report
from tests.waiting import eventually

pytestmark = pytest.mark.brokers

BEHAVIOUR = "Behavior of the brokers"
WAITING = 5_000
FAST = 20_000.0
"""Largest rate in messages a second that this number of messages can measure."""
PROBES = (probe.packet_ids, probe.window, probe.redelivery, probe.subscribing)

_STORED = "SELECT count(*), extract(epoch FROM max(received_at) - min(received_at)) FROM readings"


@pytest.mark.parametrize("look", PROBES, ids=lambda look: look.__name__)
async def test_what_it_does(look: Callable[[str], Awaitable[probe.Words]], lab: Lab, report: Report) -> None:
    words = await look(lab.url)
    for row, cell in words.items():
        report.add(BEHAVIOUR, row, lab.entry.name, cell)
    report.save()
    assert words


async def test_how_fast_it_drains(bench: Bench) -> None:
    """Measure the rate of a backlog by the ingestor's times of receipt."""
    bench.url = bench.lab.url  # the tap would be slower
    process = bench.start_ingestor()
    await bench.until_ready(process)
    await process.end()
    async with connected(bench.lab.url, "devicestat-test-publisher", clean=True) as client:
        for number in range(WAITING):
            await client.publish(differing(number).topic, differing(number).payload)
        await client.all_acknowledged()
    process = bench.start_ingestor()

    async def stored() -> int:
        (row,) = await (await bench.database.execute(_STORED)).fetchall()
        return int(row[0])

    await eventually(stored, partial(operator.le, WAITING))
    ((_, seconds),) = await (await bench.database.execute(_STORED)).fetchall()
    rate = WAITING / float(seconds)
    bench.report.add(
        BEHAVIOUR, "drains", bench.lab.entry.name, f"over {FAST:,.0f}/s" if rate > FAST else f"{rate:,.0f}/s"
    )
    bench.report.save()
