"""On a Citus cluster, the worker waits for transactions that are prepared on a node (ADR 11)."""

import asyncio
import uuid

import numpy as np
import psycopg
import pytest
from psycopg import sql

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.sealing.announcing import announce, wait_for_writers
from query_api.worker.maintenance import removal
from query_api.worker.maintenance.removal import remove_some
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.sealing import Sealing
from shared.errors import DatabaseBusy
from shared.postgres.connections import connect
from shared.postgres.distribution import Prepared, prepared_transactions
from shared.readings.model import SECOND
from tests import citus
from tests.blocks import SMALL, assert_sealed, stored
from tests.conftest import Database
from tests.waiting import eventually

COMMIT, ROLLBACK = "COMMIT PREPARED", "ROLLBACK PREPARED"
START = 1_767_225_600 * SECOND  # 2026-01-01
COUNT = 100
DEVICE = 7

_NODE = """
    SELECT nodename || ':' || nodeport
    FROM pg_dist_placement JOIN pg_dist_node USING (groupid)
    WHERE shardid = get_shard_id_for_distribution_column('readings', %s)
"""
_SHARD = """
    SELECT 'readings_2026_01_' || shard.shardid
    FROM pg_dist_shard AS shard JOIN pg_dist_shard AS parent USING (shardminvalue)
    WHERE shard.logicalrelid = 'readings_2026_01'::regclass
      AND parent.shardid = get_shard_id_for_distribution_column('readings', %s)
      AND parent.logicalrelid = 'readings'::regclass
"""
_INSERT = """
    INSERT INTO {} (id, device_id, recorded_at, received_at, x, y, z)
    VALUES (1000000, %s, '2026-01-01 00:00:03.5Z', now(), 1, 2, 3)
"""
_READINGS = "SELECT count(*) FROM readings WHERE device_id = %s"
_SEALED = "SELECT sealed > '-infinity' FROM sealed_devices WHERE device_id = %s"
_REMOVED = "SELECT removed_at IS NOT NULL FROM deleted_devices WHERE device_id = %s"


async def value(database: Database, query: str) -> object:
    row = await (await database.execute(query.encode(), (DEVICE,))).fetchone()
    assert row is not None
    return row[0]


class InDoubt:
    """A reading of the device in a transaction that is prepared on its node, as a coordinator that has failed leaves
    it. The name is not one of Citus, which does not recover it."""

    def __init__(self, node: str, shard: str) -> None:
        self.name = f"by_hand_{uuid.uuid4()}"  # of all databases of the node
        self._node = node
        with psycopg.connect(node) as connection:
            connection.execute(sql.SQL(_INSERT).format(sql.Identifier(shard)), (DEVICE,))
            connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(self.name))

    async def end(self, how: str) -> None:
        await asyncio.to_thread(self._end, how)

    def _end(self, how: str) -> None:
        with psycopg.connect(self._node, autocommit=True) as connection:
            connection.execute(f"{how} '{self.name}'".encode())


async def leave_in_doubt(database: Database, url: str) -> InDoubt:
    host = str(await value(database, _NODE))
    (node,) = [node for node in citus.nodes(url) if f"@{host}/" in node]
    return InDoubt(node, str(await value(database, _SHARD)))


@pytest.fixture
async def in_doubt(database: Database, database_url: str) -> InDoubt:
    """One of a device with COUNT readings."""
    axes = np.random.default_rng(1).normal(0, 1, (3, COUNT))
    await stored(database, DEVICE, Columns(START + SECOND * np.arange(COUNT), *axes))
    return await leave_in_doubt(database, database_url)


@citus.on_a_cluster
@pytest.mark.parametrize(("how", "count"), [(COMMIT, COUNT + 1), (ROLLBACK, COUNT)])
async def test_nothing_is_sealed_until_it_has_ended(
    in_doubt: InDoubt, database: Database, database_url: str, how: str, count: int
) -> None:
    sealing = Sealing(WorkerMetrics(), SMALL, share=1.0)
    assert await prepared_transactions(database) == Prepared({in_doubt.name})
    with pytest.raises(DatabaseBusy, match="has been storing readings for more than"):
        await wait_for_writers(database, patience_s=0.2)

    async def is_announced() -> bool:
        query = "SELECT announced > '-infinity' FROM sealed_devices WHERE device_id = %s"
        return bool(await value(database, query))

    async with await connect(database_url, "worker") as worker:
        task = asyncio.create_task(sealing.seal(worker), name="sealing")
        await eventually(is_announced, bool)
        done, _ = await asyncio.wait({task}, timeout=1)
        assert not done
        assert await value(database, _SEALED) is False
        await in_doubt.end(how)
        await task
    assert await value(database, _SEALED) is True
    assert await value(database, _READINGS) == count
    assert sealing._metrics.registry.get_sample_value("devicestat_worker_sealed_readings_total") == count
    assert (await assert_sealed(database, DEVICE))[0] > 0


@citus.on_a_cluster
@pytest.mark.parametrize("how", [COMMIT, ROLLBACK])
async def test_a_deleted_device_is_not_removed_until_it_has_ended(
    in_doubt: InDoubt, database: Database, how: str
) -> None:
    await database.execute("DELETE FROM devices WHERE id = %s", (DEVICE,))
    await database.execute("INSERT INTO deleted_devices (device_id, key) VALUES (%s, 'k')", (DEVICE,))
    steps = [await remove_some(database) for _ in range(3)]
    assert sum(step or 0 for step in steps) == COUNT
    assert steps[-1] is None
    assert await value(database, _READINGS) == 0
    assert await value(database, _REMOVED) is False

    await in_doubt.end(how)

    assert await remove_some(database) == (how == COMMIT)
    assert await value(database, _READINGS) == 0
    assert await value(database, _REMOVED) is True


@citus.on_a_cluster
async def test_one_that_ends_during_a_step_leaves_no_reading(
    in_doubt: InDoubt, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after the readings were removed, and before the device could be called removed."""
    await database.execute("DELETE FROM devices WHERE id = %s", (DEVICE,))
    await database.execute("INSERT INTO deleted_devices (device_id, key) VALUES (%s, 'k')", (DEVICE,))
    remove = removal._remove_readings

    async def remove_and_end(connection: Database, device_id: int, batch: int) -> int:
        removed = await remove(connection, device_id, batch)
        await in_doubt.end(COMMIT)
        return removed

    with monkeypatch.context() as patched:
        patched.setattr(removal, "_remove_readings", remove_and_end)
        assert await remove_some(database) == COUNT
    assert await value(database, _REMOVED) is False
    assert await remove_some(database) == 1
    assert await value(database, _REMOVED) is True
    assert await value(database, _READINGS) == 0


@citus.on_a_cluster
@pytest.mark.parametrize("is_late", [False, True])
async def test_a_batch_of_one_shard_is_prepared(database: Database, *, is_late: bool) -> None:
    """Its node would else commit before the coordinator: if that failed then, the journal would lack the batch."""
    sent: list[str] = []
    columns = Columns(START + SECOND * np.arange(3), *np.ones((3, 3)))
    await stored(database, DEVICE, columns)
    if is_late:
        await announce(database, {DEVICE: START + 60 * SECOND})
    database.add_notice_handler(lambda notice: sent.append(notice.message_primary or ""))
    await database.execute("SET citus.log_remote_commands = on")
    await database.execute("SET client_min_messages = notice")

    await stored(database, DEVICE, columns)

    assert any("PREPARE TRANSACTION" in one for one in sent), sent


def test_a_node_that_was_silent_may_have_any_of_those_that_it_names_later() -> None:
    before = Prepared({"a", "b"}, {"node"})
    assert before.still(Prepared({"b", "c"})) == Prepared({"b", "c"})
    assert Prepared({"a", "b"}).still(Prepared({"b", "c"})) == Prepared({"b"})
    assert Prepared({"a"}).still(Prepared(set(), {"node"})) == Prepared(set(), {"node"})
    assert not Prepared({"a"}).still(Prepared({"b"}))
