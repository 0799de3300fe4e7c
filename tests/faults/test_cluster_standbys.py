"""The coordinator or a node of a Citus cluster is lost in a stream of readings, and its standby replaces it.

Each reading is stored once. The commands are those of docs/citus.md.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import pytest

from deploy.doctor.cluster import examine_cluster
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import citus
from tests.conftest import Broker
from tests.faults.cluster_stream import ask, streaming
from tests.faults.standby import HOST, standby_of
from tests.faults.test_cluster_nodes_killed import kill, let_commits_take_longer
from tests.ingestion import IngestorProcess
from tests.waiting import eventually

pytestmark = citus.needs_commands
NODE = 2

_MOVE_COORDINATOR = "SELECT citus_set_coordinator_host(%s, %s)"
_COORDINATORS = "SELECT nodeport FROM pg_dist_node WHERE groupid = 0"
_MOVE_NODE = "SELECT citus_update_node(nodeid, %s, %s) FROM pg_dist_node WHERE nodeport = %s"
_PLACED = "SELECT DISTINCT nodeport FROM citus_shards ORDER BY nodeport"
_TO_STORE = "SELECT max(received_at)::text FROM readings"


def either(first: str, second: str) -> str:
    """Return the URL of that of two servers which takes writes."""
    parts, other = urlsplit(first), urlsplit(second)
    hosts = f"{parts.netloc},{other.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=hosts, query="target_session_attrs=read-write"))


async def until_stored(url: str) -> None:
    """Wait until a reading of the stream is stored that was not before."""
    look = partial(ask, url, _TO_STORE)
    before = await look()
    await eventually(look, lambda latest: latest != before)


async def test_the_coordinator_is_replaced(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database_url: str,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """The services' URL names both servers, and is not changed."""
    await let_commits_take_longer(database_url)
    counts = Counter[str]()
    async with standby_of(citus.COORDINATOR, database_url) as standby:
        url = either(database_url, standby.url)
        settings = partial(make_settings, database_url=url)
        async with streaming(settings, broker, url, start_ingestor, counts) as running:
            await running.stream.grows(1_000)
            await running.delete()
            killing = partial(kill, database_url, citus.COORDINATOR, counts)
            await asyncio.to_thread(standby.take_over, killing)
            await ask(url, _MOVE_COORDINATOR, HOST, standby.port)
            for node in citus.nodes(url):
                assert await ask(node, _COORDINATORS) == [(standby.port,)]
            await until_stored(url)
    assert counts["hits"] == 1
    async with await connect(database_url, "test") as replaced:  # the fixture has started it again
        found = await examine_cluster(replaced)
    assert [one for one in found if f"{HOST}:{standby.port} as its coordinator" in one.text]


async def test_a_node_is_replaced(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database_url: str,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    await let_commits_take_longer(database_url)
    counts, node, others = Counter[str](), citus.nodes(database_url)[NODE - 2], citus.WORKERS[NODE - 1 :]
    async with standby_of(NODE, node) as standby:
        with pytest.MonkeyPatch.context() as patch:
            async with streaming(make_settings, broker, database_url, start_ingestor, counts) as running:
                await running.stream.grows(1_000)
                await asyncio.to_thread(standby.take_over, partial(kill, database_url, NODE, counts))
                await ask(database_url, _MOVE_NODE, HOST, standby.port, urlsplit(node).port)
                patch.setattr(citus, "WORKERS", [f"{HOST}:{standby.port}", *others])
                await running.delete()
                await until_stored(database_url)
                ports = sorted(urlsplit(worker).port or 0 for worker in citus.nodes(database_url)[:-1])
                assert await ask(database_url, _PLACED) == [(port,) for port in ports]
    assert counts["hits"] == 1
