"""Settings of the database, the role or the environment do not change stored, read or displayed values."""

import json
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from shared.postgres.connections import connect, open_pool
from shared.postgres.roles import SERVICES
from shared.postgres.session_settings import PINNED
from shared.settings import Settings
from tests import citus, services
from tests.conftest import Broker
from tests.ingestion import running_ingestor
from tests.publisher import Message, publish
from tests.roles import url_as
from tests.waiting import eventually

HOSTILE = {
    "client_encoding": "LATIN1",
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "timezone": "Australia/Lord_Howe",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "lc_numeric": "POSIX",
    "lc_time": "POSIX",
    "lc_monetary": "POSIX",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "client_min_messages": "debug5",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "row_security": "off",
    "exit_on_error": "on",
    "statement_timeout": "300ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "20ms",
    "idle_session_timeout": "200ms",
    "transaction_timeout": "300ms",
    "jit": "on",
    "plan_cache_mode": "force_generic_plan",
    "constraint_exclusion": "off",
    "from_collapse_limit": "1",
    "join_collapse_limit": "1",
    "cursor_tuple_fraction": "1",
    "geqo": "off",
    "force_parallel_mode": "regress",
    "debug_parallel_query": "regress",
    "citus.all_modifications_commutative": "off",
    "citus.coordinator_aggregation_strategy": "disabled",
    **{name: "off" if value == "on" else "on" for name, value in PINNED.items() if name.startswith("enable_")},
}
TIME_LIMITS = {name for name in HOSTILE if name.endswith("_timeout")}
"""Those of a role are time limits of its statements on the nodes of a cluster too, where no session sets them again."""
OTHERS = {"synchronous_commit": "off", "search_path": "pg_temp, public"}
ENVIRONMENT = {
    "PGDATESTYLE": "German",
    "PGTZ": "Australia/Lord_Howe",
    "PGGEQO": "off",
    "PGCLIENTENCODING": "LATIN1",
}
NAME = "Kessel Süd €"
READINGS = [
    {"x": 0.1 + 0.2, "y": -1 / 3, "z": 999.9999999999999, "timestamp": "2026-01-31T12:00:00.25Z"},
    {"x": 1e-300, "y": 5e-324, "z": 2, "timestamp": "2026-01-31T13:00:00Z"},
    {"x": 0.7, "y": 1 / 7, "z": -0.0, "timestamp": "2026-02-01T00:00:00Z"},
]
VALUES = [(reading["x"], reading["y"], reading["z"]) for reading in READINGS]


def settings_there_are(url: str) -> dict[str, str]:
    """Return the hostile settings that this version of the server has."""
    with psycopg.connect(url, autocommit=True) as connection:
        known = {row[0].lower() for row in connection.execute("SELECT name FROM pg_settings")}
    return {name: value for name, value in (HOSTILE | OTHERS).items() if name in known}


def for_the_database(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _alter(url, "DATABASE {database} SET {name} = {value}")


def for_the_roles(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(url) as connection:
        superuser = connection.info.user
    for role in (
        *SERVICES.values(),
        superuser,
    ):  # the superuser last, because its settings apply to the next connection
        without = TIME_LIMITS if citus.WORKERS else set[str]()
        _alter(url, f"ROLE {role} IN DATABASE {{database}} SET {{name}} = {{value}}", without)


def by_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = " ".join(f"-c {name}={value}" for name, value in settings_there_are(url).items() if " " not in value)
    for name, value in {**ENVIRONMENT, "PGOPTIONS": options}.items():
        monkeypatch.setenv(name, value)


def _alter(url: str, statement: str, without: Collection[str] = ()) -> None:
    given = {name: value for name, value in settings_there_are(url).items() if name not in without}
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in given.items():
            parts = {
                "database": sql.Identifier(connection.info.dbname),
                "name": sql.Identifier(name),
                "value": sql.SQL(value) if name == "search_path" else sql.Literal(value),
            }
            connection.execute(sql.SQL("ALTER " + statement).format(**parts))  # type: ignore[arg-type]


WAYS = pytest.mark.parametrize("way", [for_the_database, for_the_roles, by_the_environment])
Way = Callable[[str, pytest.MonkeyPatch], None]


def test_each_pinned_setting_has_a_hostile_value() -> None:
    assert HOSTILE.keys() == PINNED.keys()
    assert [name for name, value in PINNED.items() if HOSTILE[name] == value] == []


@WAYS
async def test_every_connection_pins_its_settings(database_url: str, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    there = settings_there_are(database_url)
    way(database_url, monkeypatch)
    url = url_as(database_url, "api")
    expected = {name: value for name, value in PINNED.items() if name in there}
    expected["synchronous_commit"] = "on"

    async def shown(connection: Any) -> dict[str, str]:
        rows = await (await connection.execute("SELECT lower(name), current_setting(name) FROM pg_settings")).fetchall()
        return {name: value for name, value in rows if name in expected}

    async with await connect(url, "test") as connection:
        assert await shown(connection) == expected
    async with open_pool(url, "test", statement_timeout=7) as pool, pool.connection() as connection:
        assert await shown(connection) == expected | {"statement_timeout": "7s"}


@WAYS
async def test_the_story_is_right(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    way: Way,
) -> None:
    way(database_url, monkeypatch)
    settings = make_settings()
    async with AsyncExitStack() as running:
        await running.enter_async_context(running_ingestor(settings))
        api = await running.enter_async_context(services.api(settings))
        await running.enter_async_context(services.worker(settings))
        await story_is_right(api, broker)


async def story_is_right(api: httpx.AsyncClient, broker: Broker) -> None:
    """The README's story, over HTTP and MQTT, with exact values."""
    registered = (await api.post("/devices", json={"name": NAME, "key": "süd-1"})).json()
    assert (await api.get(f"/devices/{registered['id']}")).json()["name"] == NAME
    number = registered["id"]
    first = {"device_id": number, **READINGS[0]}
    assert (await api.post("/stats", json=first)).status_code == 201
    again = await api.post("/stats", json=first)
    topic = "devices/süd-1/stats"
    sent = (Message(json.dumps(READINGS[1:]).encode(), topic), Message(b"not JSON", topic))
    await publish(broker.host, broker.port, *sent)
    await eventually(lambda: _count(api, number), lambda count: count == len(READINGS))
    assert (again.status_code, again.json()["x"]) == (200, READINGS[0]["x"])
    await everything_is_right(api, number)


async def _count(api: httpx.AsyncClient, number: int) -> int:
    return len((await api.get(f"/stats/{number}")).json())


async def everything_is_right(api: httpx.AsyncClient, number: int) -> None:
    """Assert exact values and times in lists, streams, figures and the queue."""
    listed = (await api.get(f"/stats/{number}")).json()
    assert [(reading["x"], reading["y"], reading["z"]) for reading in listed] == VALUES
    csv = (await api.get(f"/stats/{number}", headers={"Accept": "text/csv"})).text.splitlines()
    assert [tuple(float(value) for value in line.split(",")[2:5]) for line in csv[1:]] == VALUES
    assert [line.split(",")[5][:19] for line in csv[1:]] == [str(reading["timestamp"])[:19] for reading in READINGS]
    figures = (await api.get(f"/stats/analysis/{number}")).json()
    assert figures["x"] == {"min": 1e-300, "max": 0.7, "sum": 1.0, "count": 3, "median": 0.1 + 0.2}
    days = (await api.get(f"/stats/{number}/buckets", params={"interval": "P1D"})).json()
    assert [(day["start"][:10], day["x"]["count"], day["y"]["min"]) for day in days] == [
        ("2026-01-31", 2, -1 / 3),
        ("2026-02-01", 1, 1 / 7),
    ]
    series = (await api.get(f"/stats/{number}/series")).json()
    assert series["x"]["value"] == [x for x, _, _ in VALUES]
    queued = (await api.post(f"/stats/analysis/{number}/async", headers={"Prefer": "wait=20"})).json()
    assert (queued["status"], queued["result"]["x"]) == ("done", figures["x"])
    assert (await api.get(f"/stats/analysis/result/{number}")).json()[0]["x"] == figures["x"]
    assert (await api.delete(f"/devices/{number}")).status_code == 204
