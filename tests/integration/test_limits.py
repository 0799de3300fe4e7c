"""Limits of requests per minute and of streams, for each key or address."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import msgspec
import pytest

from query_api.access import keyring
from query_api.access.rules import Principal
from query_api.queue.requests import MAX_CALLBACKS
from query_api.readings.live.listeners import LiveBounds
from query_api.serve.tuning import Tuning
from query_api.web.limits.callers import Callers, network_of
from query_api.web.limits.window import Window
from shared.access.credentials import GivenKey
from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import services
from tests.credentials import Keys, bearer, keys
from tests.services import serve
from tests.waiting import eventually

LIMIT = 20


@asynccontextmanager
async def limited(settings: Settings, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a new API, without counted requests."""
    settings = msgspec.structs.replace(settings, rate_limit=LIMIT, **changes)
    async with services.running(serve, settings), services.client_of(settings.http_port) as api:
        await eventually(lambda: services.is_live(settings.http_port), bool)
        yield api


@pytest.fixture
async def known(database: Database) -> Keys:
    """Keys of each kind."""
    return await keys(database)


async def use_up(api: httpx.AsyncClient, path: str = "/devices", **headers: str) -> None:
    """Send all requests that are allowed in a minute."""
    answers = [await api.get(path, headers=headers) for _ in range(LIMIT)]
    assert all(answer.status_code != 429 for answer in answers)


async def status(api: httpx.AsyncClient, path: str = "/devices", **headers: str) -> int:
    return (await api.get(path, headers=headers)).status_code


async def test_a_client_over_the_limit_gets_the_time_of_its_next_request(api_settings: Settings) -> None:
    async with limited(api_settings) as api:
        first = await api.get("/devices")
        assert first.headers["ratelimit-policy"] == f"{LIMIT}; w=60"
        assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == (str(LIMIT), str(LIMIT - 1))
        for left in reversed(range(LIMIT - 1)):  # each route counts
            assert (await api.get(f"/stats/{left + 1}")).headers["ratelimit-remaining"] == str(left)
        refused = await api.post("/devices", json={"name": "one too many"})
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-requests")
        assert refused.headers["content-type"] == "application/problem+json"
        seconds = int(refused.headers["retry-after"])
        assert 1 <= seconds <= 60
        assert f"in {seconds} seconds" in refused.json()["detail"]
        assert refused.headers["ratelimit-remaining"] == "0"
        assert (await api.head("/devices")).status_code == 429
        assert (await api.options("/devices")).status_code == 429
        assert {await status(api, "/health/live") for _ in range(LIMIT)} == {200}


async def test_there_is_no_limit_unless_it_is_set(api: httpx.AsyncClient) -> None:
    answers = [await api.get("/problems") for _ in range(100)]
    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit-limit" not in answers[-1].headers


async def test_each_key_has_its_own_requests(api_settings: Settings, known: Keys) -> None:
    async with limited(api_settings, auth="on") as api:
        admin, analyst = bearer(known.admin), bearer(known.analyst)
        assert await status(api, **admin) == 200  # from now on it is known whose it is
        assert await status(api, **analyst) == 200
        await use_up(api, **analyst)
        assert await status(api, **analyst) == 429
        assert await status(api, **admin) == 200


async def test_unknown_keys_share_the_limit_of_their_address(api_settings: Settings, known: Keys) -> None:
    async with limited(api_settings, auth="on") as api:
        assert await status(api, **bearer(known.admin)) == 200
        seen = [await status(api, **bearer(f"dsk_{number:08}_{'x' * 43}")) for number in range(LIMIT)]
        assert seen == [401] * (LIMIT - 1) + [429]
        assert await status(api) == 429
        assert await status(api, **bearer(known.revoked)) == 429
        assert await status(api, **bearer(known.admin)) == 200  # a known key is not affected


async def test_a_flood_without_a_key_causes_no_lookups(
    api_settings: Settings, known: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[GivenKey] = []
    look_up = keyring._holder_of_key

    async def watched(connection: Database, given: GivenKey) -> Principal | None:
        asked.append(given)
        return await look_up(connection, given)

    monkeypatch.setattr(keyring, "_holder_of_key", watched)
    async with limited(api_settings, auth="on") as api:
        seen = [await status(api, **bearer(f"dsk_{number:08}_{'x' * 43}")) for number in range(5 * LIMIT)]
    assert seen == [401] * LIMIT + [429] * 4 * LIMIT
    assert len(asked) == LIMIT


async def test_one_client_cannot_open_all_streams(api_settings: Settings, known: Keys) -> None:
    tuning = Tuning(live=LiveBounds(max_listeners_each=2))
    settings = msgspec.structs.replace(api_settings, auth="on")
    async with services.api(settings, tuning) as api, AsyncExitStack() as streams:
        admin, analyst = bearer(known.admin), bearer(known.analyst)
        device = (await api.post("/devices", json={"name": "d"}, headers=admin)).json()["id"]
        path = f"/stats/{device}/live"
        for _ in range(2):
            stream = await streams.enter_async_context(api.stream("GET", path, headers=analyst))
            assert stream.status_code == 200
        refused = await api.get(path, headers=analyst)
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-requests")
        assert refused.headers["retry-after"] == "5"
        assert "2 streams" in refused.json()["detail"]
        other = await streams.enter_async_context(api.stream("GET", path, headers=admin))
        assert other.status_code == 200


def test_a_window_counts_until_it_ends() -> None:
    now = 100.0
    window = Window(60, lambda: now)
    assert [window.add("a"), window.add("b"), window.add("a")] == [1, 1, 2]
    now = 159.5
    assert (window.add("a"), window.ends_in) == (3, 1)
    now = 160.0
    assert (window.add("a"), window.ends_in) == (1, 60)


def test_a_window_counts_further_callers_together() -> None:
    window = Window(60, lambda: 0.0, max_callers=3)
    assert [window.add(caller) for caller in "abc"] == [1, 1, 1]
    assert [window.add(caller) for caller in "defa"] == [1, 2, 3, 2]  # new callers count as one


def test_a_site_with_a_network_of_ipv6_is_one_caller() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::9") != network_of("2001:db8:1:2::9")
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("not an address") == "not an address"


def test_unknown_callers_are_not_cached() -> None:
    callers = Callers()
    scope = {"headers": [(b"authorization", b"Bearer made-up")], "scheme": "http", "client": ("192.0.2.1", 5)}
    callers.learn(scope)  # the request was never authenticated
    assert callers.of(scope) == "192.0.2.1"


async def test_the_callbacks_of_one_request_are_limited(api_settings: Settings) -> None:
    settings = msgspec.structs.replace(api_settings, webhook_secret="s" * 16)
    async with services.api(settings) as api:
        device = (await api.post("/devices", json={"name": "d"})).json()["id"]
        paths = [
            f"/stats/analysis/{device}/async?callback=https://example.com/{number}"
            for number in range(MAX_CALLBACKS + 1)
        ]
        answers = [await api.post(path) for path in (*paths, paths[0])]
    assert [answer.status_code for answer in answers] == [202] * MAX_CALLBACKS + [
        422,
        202,
    ]  # the last one exists already
    assert answers[-2].json()["errors"][0]["field"] == "callback"
    assert len(answers[-1].json()["callbacks"]) == MAX_CALLBACKS
