"""Faults of ingestors, network and broker, with a count of lost and duplicate readings on each broker."""

import asyncio

import psutil
import pytest

from tests.brokers.bench import Bench
from tests.brokers.client import connected
from tests.brokers.packets import SHARED_SUBSCRIPTIONS
from tests.brokers.plans import PLANS, equal
from tests.ingestion import IngestorProcess

pytestmark = pytest.mark.brokers

KILLS = 10
CUTS = 10
RESTARTS = 3
MEMBERS = 2
MEMBERS_KILLED = 5
GROWS = 200
WAITING = 1_000
"""Messages from the last acknowledgement to the broker's end."""


@pytest.mark.parametrize("plan", PLANS)
async def test_the_ingestor_is_killed(plan: str, bench: Bench) -> None:
    process = bench.start_ingestor()
    await bench.until_ready(process)
    async with bench.stream(f"{KILLS} kills of the ingestor, {plan}", PLANS[plan]) as (stream, _):
        for _ in range(KILLS):
            await stream.grows(GROWS)
            await bench.some_time()
            process.kill()
            process = bench.start_ingestor()
            if bench.chance.random() < 0.8:  # the others during their start
                await bench.until_ready(process)
        await bench.until_ready(process)


async def test_the_ingestor_is_stopped(bench: Bench) -> None:
    """Each stop is on the first connection of a process, and the first also on that of the session."""
    process = bench.start_ingestor()
    await bench.until_ready(process)
    async with bench.stream(f"{KILLS} stops of the ingestor, equal readings", equal) as (stream, _):
        for _ in range(KILLS):
            await stream.grows(GROWS)
            await bench.some_time()
            await process.end()
            process = bench.start_ingestor()
            await bench.until_ready(process)


@pytest.mark.parametrize("plan", ["equal readings", "equal, with timestamps"])
async def test_the_network_is_cut(plan: str, bench: Bench) -> None:
    """In half of the cuts, the last acknowledgements are lost with the connection."""
    process = bench.start_ingestor()
    await bench.until_ready(process)
    async with bench.stream(f"{CUTS} cuts of the network, {plan}", PLANS[plan]) as (stream, _):
        for _ in range(CUTS):
            await stream.grows(GROWS)
            await bench.some_time()
            if bench.chance.random() < 0.5:
                bench.tap.mute()
                await stream.grows(GROWS)
            await bench.tap.cut_and_await_the_next()
            await bench.until_ready(process)


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_the_broker_ends_and_comes_back(end: str, bench: Bench) -> None:
    """The client for comparison leaves the last messages unacknowledged. What it misses, the broker has lost."""
    if not bench.lab.restarts:
        bench.record(f"broker {end} {RESTARTS} times", "not tested: no start command")
        return
    process = bench.start_ingestor()
    await bench.until_ready(process)
    async with bench.stream(f"broker {end} {RESTARTS} times", equal, broker_dies=True) as (stream, other):
        for _ in range(RESTARTS):
            await stream.grows(GROWS)
            other.hold()
            await stream.grows(WAITING)
            await stream.halt()
            await asyncio.to_thread(bench.lab.stop if end == "stopped" else bench.lab.kill)
            await bench.lab.start()
            await other.connect()
            await bench.until_ready(process)
            stream.start()


@pytest.mark.parametrize("plan", ["equal readings", "equal, with timestamps"])
async def test_a_member_of_a_group_is_killed(plan: str, bench: Bench) -> None:
    scenario = f"{MEMBERS_KILLED} kills of one of {MEMBERS} ingestors, {plan}"
    if not await shares(bench.lab.url):
        bench.record(scenario, "has no shared subscriptions")
        return
    process = bench.start_ingestor("--processes", MEMBERS)
    await bench.until_ready(process)
    async with bench.stream(scenario, PLANS[plan]) as (stream, _):
        for _ in range(MEMBERS_KILLED):
            await stream.grows(GROWS)
            await bench.some_time()
            bench.chance.choice(members(process)).kill()
            await bench.until_ready(process)


def members(process: IngestorProcess) -> list[psutil.Process]:
    """Return the running processes of a group."""
    return psutil.Process(process.process.pid).children()


async def shares(url: str) -> bool:
    """Return whether the broker has shared subscriptions."""
    async with connected(url, "devicestat-test-shares", clean=True) as client:
        assert client.answer is not None
        return client.answer.properties.get(SHARED_SUBSCRIPTIONS, 1) == 1
