"""Decisions about the clients of a broker: caching, and the cache during an outage of the database."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from query_api.devices.mqtt.decisions import MANY_FAILURES, Allowed, Decision, Decisions, Denied
from query_api.devices.mqtt.known_devices import STALE_USABLE_S, KnownDevices
from query_api.devices.mqtt.rules import TopicAction
from shared.access.credentials import digest, new_token
from shared.errors import DatabaseUnreachable
from shared.postgres.connections import Pool
from shared.settings import parse_topic_filter
from tests.waiting import eventually

AWAY = "the database does not respond"
TOKEN, OTHER = new_token(7, None).text, new_token(7, None).text
FORM = parse_topic_filter("$share/g/plant/+/stats")


class Rows(msgspec.Struct):
    """The result of a statement."""

    rows: list[tuple[Any, ...]]

    async def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


class Database:
    """Replaces a pool and its connections: one row for each device."""

    def __init__(self) -> None:
        self.tokens = {7: TOKEN}
        self.connected = {7}
        self.asked: list[Sequence[int]] = []
        self.away = False
        self.held = asyncio.Event()
        self.held.set()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Database"]:
        if self.away:
            raise DatabaseUnreachable("away")
        yield self

    async def execute(self, statement: str, given: Any) -> Rows:
        if "UPDATE" in statement:
            self.connected |= {
                number for number, hash_ in zip(given["device_ids"], given["hashes"], strict=True)
                if hash_ == digest(self.tokens[number])
            }  # fmt: skip
            return Rows([])
        (numbers,) = given
        self.asked.append(numbers)
        await self.held.wait()
        return Rows([
            (number, f"key-{number}", digest(self.tokens[number]), number in self.connected)
            for number in numbers if number in self.tokens
        ])  # fmt: skip


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database() -> Database:
    return Database()


@pytest.fixture
def decisions(database: Database, clock: Clock) -> Decisions:
    return Decisions(KnownDevices(cast("Pool", database), clock), FORM, clock)


async def connect(decisions: Decisions, password: str = TOKEN, number: int = 7) -> Decision:
    return await decisions.authenticate(f"device-{number}", password, f"device-{number}")


async def _numbers(database: Database) -> Sequence[Sequence[int]]:
    return database.asked


async def publish(decisions: Decisions) -> Decision:
    return await decisions.authorize("device-7", "device-7", TopicAction.PUBLISH, "plant/key-7/stats")


async def test_the_topic_is_that_of_the_setting_without_its_share(decisions: Decisions) -> None:
    assert await connect(decisions) == Allowed("plant/key-7/stats")
    assert await publish(decisions) == Allowed("plant/key-7/stats")
    for action in (TopicAction.SUBSCRIBE, TopicAction.RECEIVE):
        assert isinstance(await decisions.authorize("device-7", "device-7", action, "plant/key-7/stats"), Denied)


async def test_a_device_is_looked_up_once_in_a_second(decisions: Decisions, database: Database, clock: Clock) -> None:
    for _ in range(5):
        assert isinstance(await connect(decisions), Allowed)
        assert isinstance(await publish(decisions), Allowed)
    assert len(database.asked) == 1
    clock.now += 0.95
    database.tokens[7] = OTHER
    assert isinstance(await connect(decisions), Denied)
    assert len(database.asked) == 2


async def test_impossible_names_and_passwords_cause_no_lookup(decisions: Decisions, database: Database) -> None:
    for username in ("", "7", "device-", "device-0", "device-07", "device-9223372036854775808", "device-\u0667"):
        assert isinstance(await decisions.authenticate(username, TOKEN, username), Denied)
    for password in ("", "x", "dst_7_", new_token(8, None).text, f"{TOKEN}\n", TOKEN.upper()):
        assert isinstance(await connect(decisions, password), Denied)
    assert database.asked == []


async def test_concurrent_questions_share_a_lookup(decisions: Decisions, database: Database) -> None:
    database.held.clear()
    first = asyncio.create_task(connect(decisions))
    await eventually(lambda: _numbers(database), bool)
    others = [asyncio.create_task(connect(decisions, new_token(n, None).text, n)) for n in range(8, 108)]
    await asyncio.sleep(0)
    gone = others.pop()
    gone.cancel()
    database.held.set()
    assert isinstance(await first, Allowed)
    assert all(isinstance(decision, Denied) for decision in await asyncio.gather(*others))
    assert [len(numbers) for numbers in database.asked] == [1, 100]


async def test_a_valid_token_is_allowed_after_failed_attempts(decisions: Decisions, database: Database) -> None:
    for _ in range(5 * MANY_FAILURES):
        assert isinstance(await connect(decisions, OTHER), Denied)
    assert isinstance(await connect(decisions), Allowed)


async def test_a_name_that_fails_repeatedly_is_looked_up_less_often(
    decisions: Decisions, database: Database, clock: Clock
) -> None:
    for _ in range(20):
        assert isinstance(await connect(decisions, OTHER), Denied)
        clock.now += 1
    assert MANY_FAILURES <= len(database.asked) <= MANY_FAILURES + 2
    clock.now += 60
    assert isinstance(await connect(decisions), Allowed)


async def test_cached_devices_are_used_while_the_database_is_down(
    decisions: Decisions, database: Database, clock: Clock
) -> None:
    await connect(decisions)
    database.away = True
    clock.now += STALE_USABLE_S - 1
    assert isinstance(await connect(decisions), Allowed)
    assert isinstance(await publish(decisions), Allowed)
    assert isinstance(await connect(decisions, OTHER), Denied)
    unknown = await connect(decisions, new_token(8, None).text, 8)
    assert unknown == Denied(AWAY, undecided=True)
    clock.now += 2
    assert await publish(decisions) == Denied(AWAY, undecided=True)


async def test_unknown_ids_do_not_evict_devices(database: Database, clock: Clock) -> None:
    decisions = Decisions(KnownDevices(cast("Pool", database), clock, max_remembered=5), FORM, clock)
    await connect(decisions)
    for number in range(100, 130):
        await connect(decisions, new_token(number, None).text, number)
    asked = len(database.asked)
    assert isinstance(await connect(decisions), Allowed)
    assert len(database.asked) == asked


async def test_there_is_no_lookup_for_a_second_after_a_failure(
    decisions: Decisions, database: Database, clock: Clock
) -> None:
    await connect(decisions)
    clock.now += 10
    database.away = True
    await connect(decisions)
    database.away = False
    await connect(decisions)
    assert await connect(decisions, new_token(8, None).text, 8) == Denied(AWAY, undecided=True)
    assert len(database.asked) == 1
    clock.now += 1.1
    await connect(decisions)
    assert len(database.asked) == 2


async def test_a_client_with_a_former_token_is_denied(decisions: Decisions, database: Database, clock: Clock) -> None:
    await connect(decisions)
    database.tokens[7] = OTHER
    database.connected.clear()
    clock.now += 1
    assert isinstance(await publish(decisions), Denied)
    assert isinstance(await connect(decisions, OTHER), Allowed)
    assert isinstance(await publish(decisions), Allowed)


async def test_an_error_of_a_lookup_is_raised_to_its_callers(decisions: Decisions, database: Database) -> None:
    database.tokens[7] = cast("str", None)
    with pytest.raises(AttributeError):
        await connect(decisions)
    database.tokens[7] = TOKEN
    assert isinstance(await connect(decisions), Allowed)
