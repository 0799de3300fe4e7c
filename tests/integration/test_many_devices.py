"""Registration of an array of devices: all or none, each with its token; and the texts of faults."""

from typing import Any

import httpx
import psycopg
import pytest

from shared.settings import Settings
from tests import services
from tests.closed_broker import SECRET

Database = psycopg.AsyncConnection[tuple[Any, ...]]


async def register(api: httpx.AsyncClient, *devices: Any, **parameters: str) -> httpx.Response:
    return await api.post("/devices", json=list(devices), params=parameters)


async def keys(database: Database) -> set[str]:
    return {row[0] for row in await (await database.execute("SELECT key FROM devices")).fetchall()}


async def count(database: Database, table: str) -> int:
    row = await (await database.execute(f"SELECT count(*) FROM {table}")).fetchone()  # type: ignore[arg-type]  # noqa: S608
    assert row is not None
    return int(row[0])


async def test_the_response_to_an_array_has_its_order_and_a_token_for_each_device(
    api: httpx.AsyncClient, database: Database
) -> None:
    given = [{"name": f"Meter {n}", "key": f"meter-{n}"} for n in range(999, 0, -1)]
    answer = await register(api, {"name": "Boiler"}, *given)
    assert answer.status_code == 201
    assert "location" not in answer.headers
    made = answer.json()
    assert made[0]["key"] == str(made[0]["id"])
    assert [device["key"] for device in made[1:]] == [device["key"] for device in given]
    assert [device["name"] for device in made[1:]] == [device["name"] for device in given]
    assert len({device["token"] for device in made}) == len(made) == 1000
    for device in made[::333]:
        assert (await api.get(f"/devices/{device['id']}")).json().items() <= device.items()
    assert await count(database, "device_tokens") == await count(database, "audit_log") == 1000


async def test_taken_keys_are_named_and_nothing_is_registered(api: httpx.AsyncClient, database: Database) -> None:
    await register(api, {"name": "One", "key": "a"}, {"name": "Two", "key": "c"})
    answer = await register(api, *({"name": "Device", "key": key} for key in "abcd"))
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/key-taken")
    assert [error["field"] for error in answer.json()["errors"]] == ["[0].key", "[2].key"]
    assert "'a'" in answer.json()["detail"]
    assert await keys(database) == {"a", "c"}
    assert await count(database, "audit_log") == 2


async def test_taken_keys_are_skipped_on_request(api: httpx.AsyncClient, database: Database) -> None:
    first = (await register(api, {"name": "One", "key": "a"})).json()[0]
    answer = await register(api, *({"name": "Device", "key": key} for key in "abc"), existing="skip")
    assert answer.status_code == 201
    assert [device["key"] for device in answer.json()] == ["b", "c"]
    again = await register(api, *({"name": "Device", "key": key} for key in "abc"), existing="skip")
    assert (again.status_code, again.json()) == (201, [])
    assert (await api.get(f"/devices/{first['id']}")).json()["name"] == "One"
    assert await count(database, "device_tokens") == 3


async def test_a_single_device_is_not_skipped(api: httpx.AsyncClient) -> None:
    await api.post("/devices", json={"name": "One", "key": "a"})
    again = await api.post("/devices?existing=skip", json={"name": "One", "key": "a"})
    assert again.status_code == 409


@pytest.mark.parametrize(
    ("devices", "faults"),
    [
        ([{"name": "One", "key": "a/b"}, {"name": " ", "key": "c"}], ["[0].key", "[1].name"]),
        ([{"name": "One", "key": "a\n"}], ["[0].key"]),
        ([{"name": "One"}, {"key": "a"}, {"name": "Three", "kei": "b"}], ["[1].name", "[2].kei"]),
        ([{"name": "One", "key": "a"}, {"name": "Two"}, {"name": "Three", "key": "a"}], ["[2].key"]),
        ([7], ["[0]"]),
        ([], ["body"]),
        ([{"name": "One"}] * 1001, ["body"]),
    ],
)
async def test_each_fault_is_named_by_index_and_field(
    devices: list[Any], faults: list[str], api: httpx.AsyncClient, database: Database
) -> None:
    answer = await register(api, *devices)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, faults)
    assert await keys(database) == set()


async def test_ids_that_are_taken_as_keys_are_skipped(api: httpx.AsyncClient) -> None:
    first = (await register(api, {"name": "One"})).json()[0]["id"]
    squatters = [{"name": "Squatter", "key": str(first + n)} for n in (4, 5, 6)]
    answer = await register(api, *squatters, *[{"name": "Plain"}] * 5)
    assert answer.status_code == 201
    plain = answer.json()[3:]
    assert all(device["key"] == str(device["id"]) for device in plain)
    assert len({device["id"] for device in answer.json()}) == 8


async def test_each_device_is_queued_for_the_broker_and_revocations_precede(
    api_settings: Settings, database: Database
) -> None:
    nobody = {"mqtt_admin_url": "mqtt://admin:x@127.0.0.1:1", "device_secret": SECRET}
    settings = Settings(**{name: getattr(api_settings, name) for name in ("database_url", "http_port")}, **nobody)
    async with services.api(settings) as api:
        made = (await register(api, {"name": "One"}, {"name": "Two"}, {"name": "Three"})).json()
        one, two, three = (device["id"] for device in made)
        await api.post(f"/devices/{three}/token")
        await api.delete(f"/devices/{two}")
        waiting = await database.execute("SELECT device_id FROM broker_outbox ORDER BY turn, number")
        assert [row[0] for row in await waiting.fetchall()] == [three, two, one, two, three]
