"""A download ends with the key or the session of its request, and its client sees that it is incomplete."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx
import msgspec
import pytest

from query_api.readings.live.listeners import LiveBounds
from query_api.serve.tuning import Tuning
from shared.access import keys as access_keys
from shared.access.credentials import Role
from shared.access.keys import NewKey
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import services
from tests.conftest import Database
from tests.credentials import TESTER, bearer, key
from tests.integration.test_live_fails_closed import METRICS_TOKEN, blocked_checks, held_by
from tests.integration.test_slow_readers import ARROW, CSV, EXPORTING, NDJSON, STREAMED, fill
from tests.sign_in import sign_in
from tests.waiting import eventually

COUNT = 300_000
BLOCK = 64 * 1024
BLOCKED = f"{EXPORTING} AND wait_event_type = 'Lock'"
CHECKING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'devicestat api credentials of streams'
"""
MORE = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device_id, recorded_at + number * interval '5 days', received_at, x, y, z
    FROM readings, generate_series(1, 2) AS number
"""
SENT = 'devicestat_http_slow_running{work="streams"}'
INCOMPLETE = (httpx.RemoteProtocolError, httpx.ReadError)


class Stage(msgspec.Struct, frozen=True):
    """An API with AUTH on, the link to a device with many readings, and an analyst's key."""

    api: httpx.AsyncClient
    link: str
    analyst: NewKey
    admin: dict[str, str]


@pytest.fixture
async def stage(api_settings: Settings, database: Database, tuning: Tuning) -> AsyncIterator[Stage]:
    admin = bearer(await key(database, Role.ADMIN))
    analyst = await access_keys.create(database, TESTER, Role.ANALYST, "analyst", None)
    settings = msgspec.structs.replace(api_settings, auth="on", metrics_token=METRICS_TOKEN)
    async with services.api(settings, tuning) as api:
        device = (await api.post("/devices", json={"name": "d"}, headers=admin)).json()["id"]
        await fill(database, device, COUNT)
        yield Stage(api, f"/stats/{device}", analyst, admin)


@asynccontextmanager
async def begun(stage: Stage, media_type: str, **headers: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """Begin a download, and yield the blocks after the first one."""
    async with stage.api.stream("GET", stage.link, headers={"accept": media_type, **headers}) as stream:
        assert stream.status_code in (200, 206)
        async with aclosing(stream.aiter_raw(BLOCK)) as blocks:
            assert await anext(blocks)
            yield blocks


async def exhaust(blocks: AsyncIterator[bytes]) -> None:
    """Read to the end."""
    async for _ in blocks:
        pass


async def exhaust_slowly(blocks: AsyncIterator[bytes], stage: Stage, others: int = 0) -> None:
    """Read to the end. Pause after each block while the API sends the download, beside a number of `others`."""
    async for _ in blocks:
        if await sent_by(stage.api) > others:
            await asyncio.sleep(0.1)


async def read_slowly(reader: asyncio.StreamReader, stage: Stage) -> None:
    """Read as `exhaust_slowly` does. The end of a complete response is no error."""
    while await reader.read(BLOCK):
        if await sent_by(stage.api):
            await asyncio.sleep(0.1)


async def sent_by(api: httpx.AsyncClient) -> float:
    """Return the number of downloads that the API sends."""
    lines = (await api.get("/metrics", headers=bearer(METRICS_TOKEN))).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(SENT))


async def until_ended(database: Database) -> None:
    """Wait until no export reads."""
    await eventually(lambda: database.execute(EXPORTING), lambda seen: seen.rowcount == 0)


@pytest.mark.parametrize("media_type", STREAMED)
async def test_a_download_ends_with_its_key(stage: Stage, database: Database, media_type: str) -> None:
    """The client reads all the time, in pauses that leave it far from the end."""
    await database.execute(MORE)  # Parquet would fit into the buffers of the connection
    async with begun(stage, media_type, **bearer(stage.analyst.text)) as blocks:
        await access_keys.revoke(database, TESTER, stage.analyst.prefix)
        with pytest.raises(INCOMPLETE):
            await exhaust_slowly(blocks, stage)
    await until_ended(database)


async def test_a_download_of_a_client_that_does_not_read_ends_with_its_key(stage: Stage, database: Database) -> None:
    async with begun(stage, CSV, **bearer(stage.analyst.text)) as blocks:
        await access_keys.revoke(database, TESTER, stage.analyst.prefix)
        await until_ended(database)
        with pytest.raises(INCOMPLETE):
            await exhaust(blocks)


@pytest.mark.parametrize("by", ["revocation", "end of the session", "expiry"])
async def test_a_download_by_cookie_ends_with_its_session(stage: Stage, database: Database, by: str) -> None:
    async with begun(stage, NDJSON, **await sign_in(stage.api, stage.analyst.text)) as blocks:
        if by == "revocation":
            await access_keys.revoke(database, TESTER, stage.analyst.prefix)
        elif by == "expiry":
            await database.execute("UPDATE sessions SET expires_at = now()")
        else:
            await database.execute("DELETE FROM sessions")
        with pytest.raises(INCOMPLETE):
            await exhaust_slowly(blocks, stage)


async def test_the_download_of_another_key_continues(stage: Stage, database: Database) -> None:
    async with begun(stage, ARROW, **stage.admin) as kept, begun(stage, ARROW, **bearer(stage.analyst.text)) as lost:
        await access_keys.revoke(database, TESTER, stage.analyst.prefix)
        with pytest.raises(INCOMPLETE):
            await exhaust_slowly(lost, stage, others=1)
        await exhaust(kept)


async def test_a_range_that_is_not_read_ends_with_its_key(stage: Stage, database: Database) -> None:
    """It is in memory, and needs no connection to the database."""
    headers = bearer(stage.analyst.text)
    async with begun(stage, CSV, range="bytes=0-", **headers) as blocks:
        await access_keys.revoke(database, TESTER, stage.analyst.prefix)
        with pytest.raises(INCOMPLETE):
            await exhaust_slowly(blocks, stage)


async def test_a_download_before_a_pipelined_request_ends_with_its_key(stage: Stage, database: Database) -> None:
    """The server cancels the response of the last request alone: the connection is cut."""
    port, key_of = stage.api.base_url.port, stage.analyst
    request = f"GET {stage.link}.csv HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key_of.text}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode() * 2)
    assert await reader.readexactly(BLOCK)
    await access_keys.revoke(database, TESTER, key_of.prefix)
    with pytest.raises(ConnectionResetError):
        await read_slowly(reader, stage)
    writer.close()


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-"}])
async def test_a_request_is_refused_if_its_key_ends_before_the_response_begins(
    stage: Stage, database: Database, database_url: str, headers: dict[str, str]
) -> None:
    given = {"accept": CSV, **headers, **bearer(stage.analyst.text)}
    async with await connect(database_url, "watching") as watching, asyncio.TaskGroup() as tasks:
        async with database.transaction():
            await database.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
            asking = tasks.create_task(stage.api.get(stage.link, headers=given))
            await eventually(lambda: watching.execute(BLOCKED), lambda seen: seen.rowcount == 1)
            await access_keys.revoke(watching, TESTER, stage.analyst.prefix)
            await eventually(lambda: watching.execute(CHECKING), lambda seen: seen.rowcount == 0)
        answer = await asking
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")


async def test_the_next_request_of_a_connection_is_not_ended_with_a_download(stage: Stage) -> None:
    """Requests before and after downloads use one connection."""
    headers = bearer(stage.analyst.text)
    for _ in range(3):
        short = await stage.api.get(f"{stage.link}.csv?limit=3", headers=headers)
        assert (short.status_code, short.text.count("\n")) == (200, 4)
        assert (await stage.api.get(f"{stage.link}/latest", headers=headers)).status_code == 200


async def test_a_download_pauses_while_its_key_cannot_be_checked(stage: Stage, database: Database) -> None:
    async with begun(stage, CSV, **bearer(stage.analyst.text)) as blocks:
        async with blocked_checks(database, lambda: held_by(stage.api)):
            pass
        await exhaust(blocks)


@pytest.mark.serve(Tuning(live=LiveBounds(held_s=2.0)))
async def test_a_download_whose_key_cannot_be_checked_for_long_ends(stage: Stage, database: Database) -> None:
    async with begun(stage, CSV, **bearer(stage.analyst.text)) as blocks:
        async with blocked_checks(database, lambda: held_by(stage.api)):
            await eventually(lambda: held_by(stage.api), lambda count: count == 0)
        await until_ended(database)
        with pytest.raises(INCOMPLETE):
            await exhaust(blocks)
