"""Lists of devices in an order, of some states, in pages, and their number (ADR 47)."""

import random
from collections.abc import AsyncIterator, Callable
from itertools import product
from typing import Any

import httpx
import pytest
from psycopg import AsyncCursor

from query_api.devices import search
from query_api.devices.activity import State
from query_api.devices.counting import total
from query_api.devices.ordering import Order, Ordered, find_ordered
from query_api.worker.maintenance.activity import ActivityRound
from shared.postgres.connections import Connection
from tests.conftest import Database
from tests.explained import Explained

REGISTER = "INSERT INTO devices (id, key, name) SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[])"
SET = """
    UPDATE device_activity AS stored
    SET state = given.state, rate = given.rate,
        last_at = CASE given.state WHEN 3 THEN '-infinity'::timestamptz
                                   ELSE now() - given.age * interval '1 microsecond' END
    FROM unnest(%s::bigint[], %s::smallint[], %s::float8[], %s::bigint[]) AS given (id, state, rate, age)
    WHERE device_id = given.id
"""
LISTED = "SELECT device_id, state, last_at::text, rate, lower_name FROM device_activity"
STATES: list[list[State]] = [list(State), [State.LATE], [State.SILENT, State.NEVER]]
TEXTS = [None, "pump", "öl", "7", "nothing"]


async def fill(database: Database, count: int) -> None:
    """Register devices with equal and different names, states, rates and times."""
    dice = random.Random(count)
    ids = dice.sample(range(1, 10 * count), count)
    names = [dice.choice(["Pump", "pump", "Öl", "Boiler 7", "Ärger"]) + dice.choice(["", " 1", " 2"]) for _ in ids]
    await database.execute(REGISTER, (ids, [f"k{number}" for number in ids], names))
    codes = [dice.randrange(4) for _ in ids]
    rates = [0.0 if code > 1 else dice.choice([0.1, 1 / 3, 7.0]) for code in codes]
    ages = [dice.choice([1, 2, 10**6, dice.randrange(10**12)]) for _ in ids]
    await database.execute(SET, (ids, codes, rates, ages))


async def sorted_by_python(database: Database, listed: Ordered) -> list[int]:
    """Return the ids of the list."""
    rows: list[tuple[Any, ...]] = await (await database.execute(LISTED)).fetchall()
    matching = {row.id for row in await search.find(database, listed.search, 0, 10_000)}
    codes = {state.code for state in listed.states}
    keys: dict[str, Callable[[tuple[Any, ...]], Any]] = {
        "id": lambda _: 0,
        "name": lambda row: row[4],
        "last_seen": lambda row: "" if row[2] == "-infinity" else f"{row[2].removesuffix('+00'):0<26}",
        "rate": lambda row: row[3],
        "state": lambda row: row[1],
    }
    key = keys[listed.order.removeprefix("-")]
    found = [row for row in rows if row[0] in matching and row[1] in codes]
    found.sort(key=lambda row: (key(row), row[0]), reverse=listed.order.startswith("-"))
    return [row[0] for row in found]


async def pages(database: Database, listed: Ordered, limit: int) -> AsyncIterator[int]:
    after = None
    while rows := await find_ordered(database, listed, after, limit):
        for row in rows:
            yield row.id
        after = listed.position(rows[-1])


@pytest.mark.parametrize("order", Order)
async def test_pages_have_every_device_once_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch, order: Order
) -> None:
    """Also of a search, which finds some by the order, and others by the index or a scan."""
    for module in ("query_api.devices.ordering", "query_api.devices.search"):
        monkeypatch.setattr(f"{module}.READ_FIRST", 5)
        monkeypatch.setattr(f"{module}.READ_FIRST_OF_PAGE", 0)
    monkeypatch.setattr(search, "RARE", 60)
    await fill(database, 200)
    for states, text in product(STATES, TEXTS):
        listed = Ordered(order, states, text)
        found = [device async for device in pages(database, listed, 7)]
        assert found == await sorted_by_python(database, listed), (states, text)
        assert await total(database, states, text) == len(found)


async def test_an_order_reads_a_page_of_its_index(database: Connection) -> None:
    """And sorts no more rows than the page has for each state."""
    await database.execute(
        "INSERT INTO devices (key, name) SELECT n, 'Meter ' || n FROM generate_series(1, 20000) AS n"
    )
    await database.execute(
        "UPDATE device_activity SET state = 0, rate = random(), last_at = now() - device_id * interval '1 s'"
    )
    await database.execute("UPDATE device_activity SET state = 1 WHERE device_id % 5000 = 0")
    await database.execute("VACUUM (ANALYZE) device_activity, devices")
    statements: list[tuple[str, Any]] = []

    class Cursor(AsyncCursor[Any]):
        async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            statements.append((query, params))
            return await super().execute(query, params, **options)

    explained = Explained(database)
    database.cursor_factory = Cursor
    for order, states in product(Order, STATES):
        listed = Ordered(order, states)
        after = None
        for _ in range(3):
            statements.clear()
            rows = await find_ordered(database, listed, after, 20)
            ((statement, parameters),) = statements
            plan = await explained.explain(statement, parameters, AsyncCursor)
            assert {scan["Node Type"] for scan in plan.scans} <= {"Index Scan", "Index Only Scan"}, order
            assert all(scan["Actual Rows"] <= 20 for scan in plan.scans), order
            assert plan.buffers < 400, order
            after = listed.position(rows[-1]) if rows else None
    assert len(rows) == 0, "no device is silent"


async def keep(database: Database) -> None:
    await ActivityRound(share=1.0).keep(database)


@pytest.fixture
async def four(api: httpx.AsyncClient, database: Database) -> dict[str, int]:
    """The ids of a device in each state, by the state, after a round of the worker."""
    names = ("silent", "never", "live", "late")
    made = (await api.post("/devices", json=[{"name": name.title(), "key": name} for name in names])).json()
    ids = {device["key"]: device["id"] for device in made}
    now = await (await database.execute("SELECT extract(epoch FROM now())::float8")).fetchone()
    assert now is not None
    for name, age in {"live": 0, "late": 300, "silent": 86_400}.items():
        readings = [
            {"device_id": ids[name], "x": 1, "y": 2, "z": 3, "timestamp": now[0] - age - 60 * number}
            for number in range(3)
        ]
        assert (await api.post("/stats", json=readings)).status_code == 201
    await keep(database)
    return ids


async def keys(api: httpx.AsyncClient, **parameters: object) -> list[str]:
    answer = await api.get("/devices", params=parameters)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return [device["key"] for device in answer.json()]


async def test_each_order(api: httpx.AsyncClient, four: dict[str, int]) -> None:
    assert four
    assert await keys(api) == await keys(api, order="id") == ["silent", "never", "live", "late"]
    assert await keys(api, order="-id") == ["late", "live", "never", "silent"]
    assert await keys(api, order="name") == ["late", "live", "never", "silent"]
    assert await keys(api, order="last_seen") == ["never", "silent", "late", "live"]
    assert await keys(api, order="-last_seen") == ["live", "late", "silent", "never"]
    assert await keys(api, order="-rate", state=["live", "silent"]) == ["live", "silent"]
    assert await keys(api, order="state") == ["live", "late", "silent", "never"]
    assert await keys(api, order="-state", state="live") == ["live"]
    assert await keys(api, order="-state", search="l") == ["silent", "late", "live"]


async def test_the_figures_of_a_device(api: httpx.AsyncClient, four: dict[str, int]) -> None:
    devices = {device["key"]: device for device in (await api.get("/devices")).json()}
    for name, device in devices.items():
        assert device["state"] == name
        assert device == (await api.get(f"/devices/{four[name]}")).json()
    figures = {name: (device["expected_interval"], device["rate"]) for name, device in devices.items()}
    assert figures == {
        "live": (60.0, pytest.approx(1 / 60)), "late": (60.0, pytest.approx(1 / 60)), "silent": (60.0, 0.0),
        "never": (None, 0.0),
    }  # fmt: skip


async def test_the_state_of_a_device_is_current(
    api: httpx.AsyncClient, database: Database, four: dict[str, int]
) -> None:
    """The list follows with the next round."""
    reading = {"device_id": four["silent"], "x": 1, "y": 2, "z": 3}
    await api.post("/stats", json=reading)
    (device,) = (await api.get("/devices", params={"state": "silent"})).json()
    assert device["state"] == "live"
    await keep(database)
    assert await keys(api, state="silent") == []
    assert await keys(api, state="live") == ["silent", "live"]


async def test_a_new_device_is_in_each_list(api: httpx.AsyncClient, device: int) -> None:
    """No worker has looked at it."""
    for order in Order:
        answer = await api.get("/devices", params={"order": order})
        assert [found["id"] for found in answer.json()] == [device]
        assert "x-activity-updated-at" not in answer.headers
    assert await keys(api, state="never") == [str(device)]


async def test_the_total_count(api: httpx.AsyncClient, database: Database) -> None:
    await fill(database, 50)
    for parameters in ({}, {"order": "-rate"}, {"state": "late"}, {"search": "pump", "state": ["late", "never"]}):
        whole = await api.get("/devices", params=parameters)  # type: ignore[arg-type]
        count = len(whole.json())
        assert whole.headers["x-total-count"] == str(count)
        parts = await api.get("/devices", params={**parameters, "limit": 3})
        assert (len(parts.json()), parts.headers["x-total-count"]) == (3, str(count))
        second = await api.get(parts.links["next"]["url"])
        assert second.headers["x-total-count"] == str(count)
        assert {found["id"] for found in second.json()}.isdisjoint({found["id"] for found in parts.json()})


async def test_counts_by_state(api: httpx.AsyncClient, database: Database, four: dict[str, int]) -> None:
    assert four
    counts = (await api.get("/devices/states")).json()
    updated_at = counts.pop("updated_at")
    assert counts == {"live": 1, "late": 1, "silent": 1, "never": 1}
    answer = await api.get("/devices", params={"order": "state"})
    assert answer.headers["x-activity-updated-at"] == updated_at
    assert "x-activity-updated-at" not in (await api.get("/devices", params={"order": "-name"})).headers
    found = (await api.get("/devices/states", params={"search": "LI"})).json()
    assert (found["live"], found["late"], found["silent"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("parameters", "field", "detail"),
    [
        ({"order": "age"}, "order", "expected id, -id, name, -name"),
        ({"state": "dead"}, "state", "expected live, late, silent or never, got 'dead'"),
        ({"search": "\0"}, "search", "contains a NUL character"),
        ({"state": ["live", "dead", "late"]}, "state", "got 'dead'"),
        ({"order": ["id", "name"]}, "order", "expected it once, got it 2 times"),
    ],
)
async def test_what_is_refused(api: httpx.AsyncClient, parameters: dict[str, Any], field: str, detail: str) -> None:
    answer = await api.get("/devices", params=parameters)
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["field"] == field
    assert detail in fault["detail"]


async def test_a_cursor_of_another_order_is_refused(api: httpx.AsyncClient, database: Database) -> None:
    await fill(database, 30)
    cursors = {}
    for order in Order:
        answer = await api.get("/devices", params={"order": order, "limit": 3})
        cursors[order] = answer.headers["x-next-cursor"]
    for order, other in product(Order, Order):
        answer = await api.get("/devices", params={"order": order, "cursor": cursors[other]})
        assert (answer.status_code == 200) is (order == other), (order, other)
        assert order == other or answer.json()["type"] == "/problems/bad-cursor"
