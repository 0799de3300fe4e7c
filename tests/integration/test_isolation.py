"""A row that only the database refuses is found in a few round trips, however large its batch is (ADR 5)."""

import json
import math
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import pytest

from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.ingestion import metrics, running_ingestor
from tests.proxy import Link, Proxy, open_postgres, running, through
from tests.publisher import Message, publish
from tests.waiting import eventually

TRIPS_A_HALVING = 12
"""Two halves, each with a savepoint, COPY (two round trips), INSERT, and the end of the savepoint."""
TRIPS_BESIDES = 30
"""The batch itself, twice; its device, month, dead letters and journal entry; a probe."""
_PREFIX = "devicestat_ingest_readings_"


class Answers(Proxy):
    """Proxy of a PostgreSQL that counts the answers for which a client waits.

    ReadyForQuery ends a command, CopyInResponse asks for the data of a COPY.
    https://www.postgresql.org/docs/current/protocol-message-formats.html
    """

    def __init__(self, url: str) -> None:
        super().__init__(lambda: open_postgres(url))
        self._seen: Counter[bytes] = Counter()
        self._rest: defaultdict[Link, bytes] = defaultdict(bytes)

    @property
    def count(self) -> int:
        """Return the number of answers so far."""
        return self._seen[b"Z"] + self._seen[b"G"]

    async def server_sends(self, link: Link, data: bytes) -> None:
        self._rest[link] += data
        self._seen.update(self._messages(link))
        await super().server_sends(link, data)

    def _messages(self, link: Link) -> Iterator[bytes]:
        data, start = self._rest[link], 0
        while start + 5 <= len(data):
            (length,) = struct.unpack_from(">I", data, start + 1)  # includes itself, but not the type
            if start + 1 + length > len(data):
                break
            yield data[start : start + 1]
            start += 1 + length
        self._rest[link] = data[start:]


def batch(count: int, bad: set[int]) -> Message:
    """Return an array of readings. The bad ones have z = 13."""
    return Message(json.dumps([{"x": n / 10, "y": 0, "z": 13 if n in bad else 0} for n in range(count)]).encode())


async def trips(proxy: Answers, settings: Settings, broker: Broker, message: Message, count: int) -> int:
    """Return the number of round trips until all readings of the message are stored or refused."""
    port = settings.ingestor_metrics_port
    before, received = proxy.count, (await metrics(port))[f"{_PREFIX}received_total"]
    await publish(broker.host, broker.port, message)
    await eventually(
        lambda: metrics(port),
        lambda figures: figures[f"{_PREFIX}received_total"] == received + count and figures[f"{_PREFIX}in_flight"] == 0,
    )
    return proxy.count - before


@pytest.mark.parametrize("count", [100, 1000, 5000])
async def test_the_round_trips_grow_with_the_logarithm_of_the_batch(
    count: int, make_settings: Callable[..., Settings], broker: Broker, database: Database, database_url: str
) -> None:
    await database.execute("ALTER TABLE readings ADD CONSTRAINT not_thirteen CHECK (z <> 13)")
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")
    async with running(Answers(database_url)) as proxy:
        settings = make_settings(database_url=through(proxy, database_url))
        async with running_ingestor(settings):
            await trips(proxy, settings, broker, batch(1, set()), 1)  # caches its device and its month
            good = await trips(proxy, settings, broker, batch(count, set()), count)
            assert good <= TRIPS_BESIDES
            few = TRIPS_BESIDES + TRIPS_A_HALVING * math.ceil(math.log2(count))
            for bad in (0, count // 2, count - 1):
                assert good < await trips(proxy, settings, broker, batch(count, {bad}), count) <= few
            assert await trips(proxy, settings, broker, batch(count, {1, count // 2, count - 2}), count) <= 3 * few
    stored = await (await database.execute("SELECT count(*), count(*) FILTER (WHERE z = 13) FROM readings")).fetchall()
    assert stored == [(1 + 5 * count - 6, 0)]
    kept = await (await database.execute("SELECT reasons, faults FROM dead_letters ORDER BY id")).fetchall()
    assert [[fault["index"] for fault in faults] for _, faults in kept] == [
        [0],
        [count // 2],
        [count - 1],
        [1, count // 2, count - 2],
    ]
    assert [reasons for reasons, _ in kept] == [{"database_refused": number} for number in (1, 1, 1, 3)]
    assert all("not_thirteen" in fault["detail"] for _, faults in kept for fault in faults)
