"""Requests under foreign host names, and from pages of other origins, with AUTH off and on."""

import asyncio
from collections.abc import Callable

import httpx
import msgspec
import pytest

from shared.settings import Settings
from tests import services
from tests.waiting import eventually

FOREIGN = {"Origin": "http://evil.test", "Sec-Fetch-Site": "cross-site"}
NEIGHBOUR = {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}


async def status_of(port: int, request: bytes) -> int:
    """Return the response to bytes that no client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ")[1])


async def test_a_request_has_one_host(api_settings: Settings) -> None:
    for auth in ("off", "on"):
        settings = msgspec.structs.replace(api_settings, auth=auth)
        async with services.api(settings):
            for hosts, status in (
                (b"Host: localhost\r\n", 200), (b"", 400), (b"Host: localhost\r\nHost: evil.test\r\n", 400),
                (b"Host: localhost\r\nHost: localhost\r\n", 400), (b"Host: a, b\r\n", 400), (b"Host:\r\n", 400),
            ):  # fmt: skip
                request = b"GET /health/live HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n"
                assert await status_of(settings.http_port, request) == status, hosts
            old = b"GET /health/live HTTP/1.0\r\n\r\n"  # like a load balancer, and unlike a browser
            assert await status_of(settings.http_port, old) == 200


async def test_a_rebound_name_reads_nothing(api: httpx.AsyncClient, device: int) -> None:
    for host in ("rebound.test", f"rebound.test:{api.base_url.port}", "192.0.2.7"):
        for path in ("/devices", f"/stats/{device}", "/docs", "/nowhere", "/health/live"):
            answer = await api.get(path, headers={"Host": host})
            assert (answer.status_code, answer.headers["content-type"]) == (421, "application/problem+json"), path
            assert "DEVICESTAT_CORS_ORIGINS" in answer.json()["detail"]
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80"):
        assert (await api.get("/devices", headers={"Host": host})).status_code == 200


async def test_with_auth_any_name_is_served(api_settings: Settings) -> None:
    settings = msgspec.structs.replace(api_settings, auth="on")
    async with services.api(settings) as api:
        assert (await api.get("/health/live", headers={"Host": "telemetry.example.com"})).status_code == 200
        assert (await api.post("/devices", headers=FOREIGN)).status_code == 401


@pytest.mark.parametrize("headers", [FOREIGN, NEIGHBOUR, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_a_page_of_another_origin_changes_nothing(
    api: httpx.AsyncClient, device: int, headers: dict[str, str]
) -> None:
    reading = {"device_id": device, "x": 1, "y": 2, "z": 3}
    for method, path, body in (
        ("POST", "/devices", {"name": "theirs"}), ("POST", "/stats", reading),
        ("POST", f"/devices/{device}/token", None), ("POST", f"/stats/analysis/{device}/async", None),
        ("PATCH", f"/devices/{device}", {"name": "theirs"}), ("DELETE", f"/devices/{device}", None),
    ):  # fmt: skip
        answer = await api.request(method, path, json=body, headers=headers)
        assert answer.status_code == 403, path
        assert "DEVICESTAT_CORS_ORIGINS" in answer.json()["detail"]
    (unchanged,) = (await api.get("/devices", headers=headers)).json()
    assert (unchanged["name"], unchanged["readings"]) == ("Boiler, north", 0)


async def test_pages_of_configured_origins_are_allowed(api_settings: Settings) -> None:
    settings = msgspec.structs.replace(api_settings, cors_origins="http://evil.test, https://plots.example.com")
    async with services.api(settings) as api:
        for headers in (FOREIGN, {"Origin": "https://plots.example.com"}, {"Host": "plots.example.com"}):
            assert (await api.post("/devices", json={"name": "n"}, headers=headers)).status_code == 201
        assert (await api.post("/devices", json={"name": "n"}, headers=NEIGHBOUR)).status_code == 403


async def test_pages_of_the_service_are_allowed(api: httpx.AsyncClient) -> None:
    own = {"Origin": str(api.base_url).rstrip("/")}
    for headers in ({**own, "Sec-Fetch-Site": "same-origin"}, own, {"Sec-Fetch-Site": "none"}):
        assert (await api.post("/devices", json={"name": "n"}, headers=headers)).status_code == 201


async def test_a_body_requires_its_media_type(api: httpx.AsyncClient) -> None:
    answer = await api.post("/devices", content=b'{"name": "n"}')
    assert "content-type" not in answer.request.headers
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert "Content-Type: application/json" in answer.json()["detail"]
    assert (await api.get("/devices")).json() == []


async def test_the_metrics_of_a_worker_are_refused_under_other_names(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    async with services.worker(settings), services.client_of(settings.worker_metrics_port) as client:
        await eventually(lambda: services.is_ready(settings.worker_metrics_port), bool)
        for path in ("/metrics", "/health/ready"):
            assert (await client.get(path, headers={"Host": "rebound.test"})).status_code == 421
            assert (await client.get(path)).status_code == 200
