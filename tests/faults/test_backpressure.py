"""Messages arrive faster than they are stored: the ingestor's pending readings are bounded, in number and in bytes."""

from collections.abc import Callable
from functools import partial

import pytest

from ingestor.delivery.backlog import HIGH_BYTES, HIGH_READINGS
from shared.postgres.connections import connect
from shared.readings.rules import MAX_READINGS
from shared.settings import Settings
from tests.conftest import Broker
from tests.faults.memory import BOUND, watched
from tests.faults.stream import (
    FLAT_OUT,
    IN_FLIGHT,
    add_devices,
    expect_a_good_end,
    expect_counts_to_add_up,
    expect_each_once,
    publishing,
)
from tests.ingestion import IngestorProcess, metrics, until_not_ready
from tests.services import database_away
from tests.waiting import eventually

NOTE = "n" * 100_000
"""With this note, ten readings are a payload of a megabyte."""


@pytest.mark.parametrize(
    ("size", "note", "messages", "least", "most"),
    [
        pytest.param(MAX_READINGS, "", 40, HIGH_READINGS, HIGH_READINGS + MAX_READINGS, id="readings"),
        pytest.param(10, NOTE, 100, HIGH_BYTES // len(NOTE) - 10, HIGH_BYTES // len(NOTE) + 10, id="bytes"),
        pytest.param(
            *(MAX_READINGS, "", 400, HIGH_READINGS, HIGH_READINGS + MAX_READINGS),
            id="readings, long",
            marks=pytest.mark.soak,
        ),
        pytest.param(
            *(10, NOTE, 1000, HIGH_BYTES // len(NOTE) - 10, HIGH_BYTES // len(NOTE) + 10),
            id="bytes, long",
            marks=pytest.mark.soak,
        ),
    ],
)
async def test_what_waits_is_bounded(
    size: int,
    note: str,
    messages: int,
    least: int,
    most: int,
    make_settings: Callable[..., Settings],
    broker: Broker,
    postgres_server: str,
    database_url: str,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    async with await connect(database_url, "test") as database:
        await add_devices(database)
    process = start_ingestor(make_settings())
    await process.until_ready()

    async with watched(process.process.pid) as memory:
        async with publishing(broker, size=size, padding=note, rate=FLAT_OUT) as stream:
            await stream.grows(3)
            async with database_away(postgres_server, database_url):
                await until_not_ready(process.port)
                await eventually(partial(metrics, process.port), lambda figures: figures[IN_FLIGHT] >= least)
                await stream.grows(messages)
                assert least <= (await expect_counts_to_add_up(process.port))[IN_FLIGHT] <= most
        async with await connect(database_url, "test") as database:
            await expect_each_once(database, stream)
    assert memory.peak < BOUND
    await expect_a_good_end(process)
