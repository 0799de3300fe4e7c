"""Changes of keys and tokens while the API runs: each process applies them within a second."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import httpx
import msgspec
import pytest

from query_api.access.keyring import REMEMBERED_S, Keyring
from shared.access import keys as access_keys
from shared.access.audit import Action
from shared.access.credentials import Role, new_key, new_token, read
from shared.postgres.connections import Connection as Database
from shared.postgres.connections import open_pool
from shared.settings import Settings
from tests import services
from tests.credentials import TESTER, bearer, key
from tests.ports import free_port
from tests.waiting import eventually

A_SECOND = 1.0
AUDIT = "SELECT actor, origin, action, subject, detail, database_role FROM audit_log ORDER BY id"


@pytest.fixture
def closed(api_settings: Settings) -> Settings:
    """Settings with AUTH on."""
    return msgspec.structs.replace(api_settings, auth="on")


async def expect_refusal_after(
    since: float, within_s: float, api: httpx.AsyncClient, headers: dict[str, str], path: str = "/devices"
) -> None:
    """Ask until the answer is 401. No request that began more than `within_s` after `since` is let in.

    Both are moments of the event loop, which is also the clock of the API's keyring.
    """
    loop = asyncio.get_running_loop()
    while True:
        asked = loop.time()
        if (await api.get(path, headers=headers)).status_code == 401:
            return
        assert asked - since <= within_s


def refused(api: httpx.AsyncClient, headers: dict[str, str], path: str = "/devices") -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return (await api.get(path, headers=headers)).status_code == 401

    return look


async def test_a_revoked_key_is_refused_within_a_second_by_every_process(closed: Settings, database: Database) -> None:
    made = await access_keys.create(database, TESTER, Role.ANALYST, "", None)
    async with AsyncExitStack() as stack:
        apis = []
        for _ in range(2):
            settings = msgspec.structs.replace(closed, http_port=free_port())
            await stack.enter_async_context(services.api(settings))
            apis.append(await stack.enter_async_context(services.client_of(settings.http_port)))
        for api in apis:
            assert (await api.get("/devices", headers=bearer(made.text))).status_code == 200
        await access_keys.revoke(database, TESTER, made.prefix)
        revoked = asyncio.get_running_loop().time()
        for api in apis:
            await expect_refusal_after(revoked, A_SECOND, api, bearer(made.text))


async def test_a_key_is_looked_up_once_for_many_requests(database_url: str, database: Database) -> None:
    admin = await key(database, Role.ADMIN)
    now = 0.0
    async with open_pool(database_url, "test", max_size=2) as pool:
        keyring = Keyring(pool, lambda: now)
        found = await asyncio.gather(*(keyring.find(admin) for _ in range(50)))
        assert {principal and principal.role for principal in found} == {"admin"}
        asked = pool.get_stats()["requests_num"]
        assert asked == 1
        now = REMEMBERED_S * 0.99
        assert await keyring.find(admin) is not None
        assert keyring.known(admin) is not None
        assert pool.get_stats()["requests_num"] == asked
        now = REMEMBERED_S * 1.01
        assert keyring.known(admin) is None
        assert await keyring.find(admin) is not None
        assert pool.get_stats()["requests_num"] == asked + 1
        for form in ("", "x", "dsk_", new_key().text + "x", "dst_99999999999999999999_" + "a" * 43):
            assert await keyring.find(form) is None
        assert pool.get_stats()["requests_num"] == asked + 1


async def test_the_last_use_of_a_key_is_recorded(closed: Settings, database: Database) -> None:
    made = await access_keys.create(database, TESTER, Role.ANALYST, "", None)
    async with services.api(closed) as api:
        await api.get("/devices", headers=bearer(made.text))
    (shown,) = [one for one in await access_keys.all_keys(database) if one.prefix == made.prefix]
    assert shown.last_used_at is not None


async def test_a_token_stores_readings_of_its_device_until_it_is_rotated(closed: Settings, database: Database) -> None:
    admin = bearer(await key(database, Role.ADMIN))
    async with services.api(closed) as api:
        device = (await api.post("/devices", json={"name": "n"}, headers=admin)).json()
        reading = {"device_id": device["id"], "x": 1, "y": 2, "z": 3}
        token = bearer(device["token"])
        assert (await api.post("/stats", json=reading, headers=token)).status_code == 201
        rotated = (await api.post(f"/devices/{device['id']}/token", headers=admin)).json()
        assert rotated.keys() == {"device_id", "token", "mqtt_username"}
        assert (await api.post("/stats", json=reading, headers=bearer(rotated["token"]))).status_code == 201

        async def ended() -> bool:
            return (await api.post("/stats", json=reading, headers=token)).status_code == 401

        await eventually(ended, bool)
        nothing = await api.post("/devices/999999/token", headers=admin)
        assert nothing.status_code == 404
        assert (await api.delete(f"/devices/{device['id']}", headers=admin)).status_code == 204
        await eventually(refused(api, bearer(rotated["token"])), bool)


async def test_a_device_that_an_ingestor_has_registered_gets_its_token_by_rotation(
    api: httpx.AsyncClient, database: Database
) -> None:
    row = await (
        await database.execute("INSERT INTO devices (key, name) VALUES ('wild', 'wild') RETURNING id")
    ).fetchone()
    assert row is not None
    first = (await api.post(f"/devices/{row[0]}/token")).json()
    given = read(first["token"])
    assert given is not None
    kept = await (await database.execute("SELECT hash, nonce FROM device_tokens")).fetchall()
    assert kept == [(given.hash, None)]


async def test_with_a_secret_the_token_is_derived_and_queued_for_the_broker(
    api_settings: Settings, database: Database
) -> None:
    secret = new_token(1, None).text
    nowhere = f"mqtt://admin:password@127.0.0.1:{free_port()}"
    settings = msgspec.structs.replace(api_settings, device_secret=secret, mqtt_admin_url=nowhere)
    async with services.api(settings) as api:
        device = (await api.post("/devices", json={"name": "n"})).json()
        await api.post(f"/devices/{device['id']}/token")
        await api.delete(f"/devices/{device['id']}")
    told = await (await database.execute("SELECT device_id FROM broker_outbox ORDER BY number")).fetchall()
    assert told == [(device["id"],)] * 3


async def test_actions_are_audited(closed: Settings, database: Database) -> None:
    admin = await access_keys.create(database, TESTER, Role.ADMIN, "a person", None)
    headers = bearer(admin.text)
    async with services.api(closed) as api:
        device = (await api.post("/devices", json={"name": "n", "key": "k"}, headers=headers)).json()["id"]
        await api.patch(f"/devices/{device}", json={"name": "m"}, headers=headers)
        await api.post(f"/devices/{device}/token", headers=headers)
        schedule = {"device_id": device, "cron": "0 0 * * *", "period": "P1D"}
        made = (await api.post("/stats/analysis/schedules", json=schedule, headers=headers)).json()["id"]
        await api.patch(f"/stats/analysis/schedules/{made}", json={"paused": True}, headers=headers)
        await api.delete(f"/stats/analysis/schedules/{made}", headers=headers)
        request = (await api.post(f"/stats/analysis/{device}/async", headers=headers)).json()["id"]
        await database.execute("UPDATE analysis_requests SET owner = 'another key'")
        await api.delete(f"/stats/analysis/requests/{request}", headers=headers)
        for path in (f"/devices/{device}", f"/devices/{device}", "/stats/analysis/schedules/9"):
            await api.delete(path, headers=headers)
        refused = await api.post("/devices", json={"name": "n", "key": "k"}, headers={})
        assert refused.status_code == 401
    rows = await (await database.execute(AUDIT)).fetchall()
    assert [(action, subject) for _, _, action, subject, *_ in rows] == [
        (Action.KEY_CREATED, f"key {admin.prefix}"),
        (Action.DEVICE_CREATED, f"device {device}"),
        (Action.DEVICE_RENAMED, f"device {device}"),
        (Action.DEVICE_TOKEN_ROTATED, f"device {device}"),
        (Action.SCHEDULE_CREATED, f"schedule {made}"),
        (Action.SCHEDULE_CHANGED, f"schedule {made}"),
        (Action.SCHEDULE_DELETED, f"schedule {made}"),
        (Action.ANALYSIS_CANCELLED, f"request {request}"),
        (Action.DEVICE_DELETED, f"device {device}"),
    ]
    assert {row[:2] for row in rows[1:]} == {(admin.prefix, "127.0.0.1")}
    assert rows[1][4] == {"key": "k", "name": "n"}
    assert admin.text not in str(rows)
