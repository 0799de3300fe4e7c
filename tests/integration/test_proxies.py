"""With a proxy: the origin of a request comes from its headers only if the proxy is trusted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from shared.serving.limits import plain_address
from shared.settings import Settings
from tests import services
from tests.services import serve
from tests.waiting import eventually

LIMIT = 1000


@asynccontextmanager
async def behind(settings: Settings, proxies: str) -> AsyncIterator[httpx.AsyncClient]:
    """An API that trusts the proxies. Its rate limit of an address shows the origin that it uses."""
    origins = "https://devicestat.example.com"  # a proxy forwards its Host
    settings = msgspec.structs.replace(settings, trusted_proxies=proxies, rate_limit=LIMIT, cors_origins=origins)
    async with services.running(serve, settings), services.client_of(settings.http_port) as api:
        await eventually(lambda: services.is_live(settings.http_port), bool)
        yield api


async def requests_of(api: httpx.AsyncClient, *forwarded: str) -> int:
    """Return the number of the request in the count of its origin."""
    answer = await api.get("/problems", headers=[("X-Forwarded-For", value) for value in forwarded])
    assert answer.status_code == 200
    return LIMIT - int(answer.headers["ratelimit-remaining"])


@pytest.mark.parametrize("proxies", ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8,::1"])
async def test_a_trusted_proxy_says_whom_a_request_is_from(api_settings: Settings, proxies: str) -> None:
    async with behind(api_settings, proxies) as api:
        assert [await requests_of(api, "192.0.2.1") for _ in range(3)] == [1, 2, 3]
        assert await requests_of(api, "192.0.2.2") == 1
        assert await requests_of(api, "192.0.2.1:4711") == 4  # some also write the port
        assert await requests_of(api, "2001:db8::1") == 1
        assert await requests_of(api, "[2001:db8::2]:4711") == 2  # in the same network
        assert await requests_of(api) == 1  # the proxy's address


async def test_what_a_client_writes_itself_does_not_count(api_settings: Settings) -> None:
    """A proxy appends the address of its client. The last address that is no trusted proxy counts."""
    async with behind(api_settings, "127.0.0.1,10.0.0.0/8") as api:
        assert await requests_of(api, "203.0.113.7") == 1
        assert await requests_of(api, "192.0.2.1, 203.0.113.7") == 2
        assert await requests_of(api, "127.0.0.1, 203.0.113.7") == 3
        assert await requests_of(api, "192.0.2.1, 203.0.113.7, 10.1.2.3") == 4  # through two proxies
        assert await requests_of(api, "192.0.2.1", "nonsense, 203.0.113.7") == 5  # a header twice
        assert await requests_of(api, "192.0.2.1") == 1


@pytest.mark.parametrize("proxies", ["", "10.0.0.0/8"])
async def test_a_proxy_that_is_not_trusted_says_nothing(api_settings: Settings, proxies: str) -> None:
    async with behind(api_settings, proxies) as api:
        assert [await requests_of(api, f"192.0.2.{number}") for number in (1, 2, 3)] == [1, 2, 3]
        answer = await api.get("/problems", headers={"X-Forwarded-Proto": "https"})
        assert "strict-transport-security" not in answer.headers


async def test_https_is_asked_for_where_the_proxy_was_reached_by_it(api_settings: Settings) -> None:
    async with behind(api_settings, "127.0.0.1") as api:
        for path in ("/problems", "/nowhere", "/docs"):
            by_https = await api.get(path, headers={"X-Forwarded-Proto": "https"})
            assert by_https.headers["strict-transport-security"] == "max-age=31536000", path
            by_http = await api.get(path, headers={"X-Forwarded-Proto": "http"})
            assert "strict-transport-security" not in by_http.headers


async def test_addresses_that_are_answered_lead_back_through_the_proxy(api_settings: Settings) -> None:
    async with behind(api_settings, "127.0.0.1") as api:
        headers = {"X-Forwarded-Proto": "https", "Host": "devicestat.example.com"}
        for name in "ab":
            device = (await api.post("/devices", json={"name": name}, headers=headers)).json()["id"]
        page = await api.get("/devices?limit=1", headers=headers)
        assert page.headers["link"].startswith("</devices?")
        queued = await api.post(f"/stats/analysis/{device}/async", headers=headers)
        assert queued.headers["location"] == f"/stats/analysis/requests/{queued.json()['id']}"
        assert (await api.get("/ui", headers=headers)).headers["location"] == "/"


def test_an_ipv4_address_of_a_socket_for_both_kinds_is_one() -> None:
    assert plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_address("192.0.2.1") == "192.0.2.1"
    assert plain_address("2001:db8::1") == "2001:db8::1"
