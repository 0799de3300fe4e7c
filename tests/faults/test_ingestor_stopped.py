"""An ingestor is stopped while messages arrive at full speed: none is lost, and none is stored twice."""

from collections.abc import Callable

import pytest

from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.faults.stream import FLAT_OUT, add_devices, expect_each_once, publishing
from tests.ingestion import IngestorProcess


@pytest.mark.parametrize("messages", [1_500, 2_500, 3_500])
async def test_a_stop_loses_no_acknowledgement(
    messages: int,
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """A close with unread bytes resets the connection, and the broker discards acknowledgements that it has not read.

    On the first connection of a session, nothing else shows what is stored: up to 849 readings were stored twice.
    """
    await add_devices(database)
    settings = make_settings()
    process = start_ingestor(settings)
    await process.until_ready()
    async with publishing(broker, rate=FLAT_OUT) as stream:
        await stream.reaches(messages)
        await process.end()
        process = start_ingestor(settings)
        await process.until_ready()
        await stream.grows(1_000)
    await expect_each_once(database, stream)
    await process.end()
