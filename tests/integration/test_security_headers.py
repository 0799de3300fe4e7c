"""Security headers of every response, and CORS for pages of other origins."""

import asyncio

import httpx
import msgspec
import pytest

from query_api.dashboard import shell
from query_api.dashboard.assets import CACHED, read_assets
from query_api.web.docs.page import POLICY
from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import services
from tests.credentials import Keys, bearer, keys
from tests.integration.test_access import ALLOWED, path_of
from tests.ports import free_port
from tests.waiting import HANG_S, eventually

NOTHING = "default-src 'none'; frame-ancestors 'none'"
PAGE, STRANGER = "https://plots.example.com", "https://elsewhere.example.com"


@pytest.fixture
async def known(database: Database) -> Keys:
    """A key of each role."""
    return await keys(database)


def faults(answer: httpx.Response, policy: str = NOTHING) -> list[str]:
    """Return the wrong headers."""
    right = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "content-security-policy": policy,
    }
    wrong = [name for name, value in right.items() if answer.headers.get_list(name) != [value]]
    return wrong + [name for name in ("server", "strict-transport-security") if name in answer.headers]


async def ask(api: httpx.AsyncClient, method: str, path: str, **headers: str) -> httpx.Response:
    """Return the response, or the beginning of an endless one."""
    async with asyncio.timeout(HANG_S), api.stream(method, path, headers=headers) as answer:
        return answer


def policy_of(template: str) -> str:
    """Return the policy of a route, which has one of its own if it is a page."""
    if template in shell.SCREENS:
        return shell.POLICY
    return POLICY if template.startswith("/docs") and "start.js" not in template else NOTHING


OWN_CACHING = {"/assets/{version:str}/{file_path:path}": CACHED, **dict.fromkeys(shell.SCREENS, "no-cache")}
"""Routes of files that are the same for everybody."""


async def test_every_route_has_the_security_headers(api_settings: Settings, known: Keys) -> None:
    """With and without credentials: responses and errors of every kind."""
    settings = msgspec.structs.replace(api_settings, auth="on")
    wrong, statuses = [], set()
    async with services.api(settings) as api:
        device = (await api.post("/devices", json={"name": "d"}, headers=bearer(known.admin))).json()["id"]
        routes = [(*route.split(" ", 1), path_of(route.split(" ", 1)[1])) for route in ALLOWED]
        routes += [("GET", "", f"/stats/{device}/live"), ("GET", "", "/nowhere"), ("PUT", "", "/devices")]
        for method, template, path in routes:
            for headers in ({}, bearer(known.admin)):
                answer = await ask(api, method, path, **headers)
                found = faults(answer, NOTHING if answer.status_code == 401 else policy_of(template))
                if headers and answer.headers.get("cache-control") != OWN_CACHING.get(template, "no-store"):
                    found.append("cache-control")
                wrong += [(method, path, bool(headers), found)] if found else []
                statuses.add(answer.status_code)
    assert wrong == []
    assert statuses >= {200, 401, 404, 405, 422}


async def test_public_responses_may_be_cached(api: httpx.AsyncClient, device: int) -> None:
    assert "cache-control" not in (await api.get(f"/devices/{device}")).headers
    style = await api.get(read_assets().address("static/style.css"))
    assert (style.status_code, style.headers["cache-control"]) == (200, CACHED)


async def test_the_telemetry_of_a_daemon_has_the_security_headers(api_settings: Settings) -> None:
    settings = msgspec.structs.replace(api_settings, worker_metrics_port=free_port())
    async with services.worker(settings), services.client_of(settings.worker_metrics_port) as daemon:
        await eventually(lambda: services.is_live(settings.worker_metrics_port), bool)
        for path in ("/metrics", "/health/ready", "/nowhere"):
            assert faults(await daemon.get(path)) == [], path


def test_the_page_runs_only_files_of_this_service() -> None:
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert POLICY.startswith("default-src 'none'; ")


async def test_the_document_cannot_leave_its_element(api: httpx.AsyncClient) -> None:
    page = (await api.get("/docs")).text
    document = page.partition('id="document">')[2].partition("</script>")[0]
    assert "<" not in document
    assert msgspec.json.decode(document) == (await api.get("/openapi.json")).json()


# Pages of other origins.


async def test_no_page_is_allowed_without_the_setting(api: httpx.AsyncClient) -> None:
    answer = await api.get("/devices", headers={"Origin": PAGE})
    preflight = await api.options("/devices", headers={"Origin": PAGE, "Access-Control-Request-Method": "GET"})
    for seen in (answer, preflight):
        assert not [name for name in seen.headers if name.startswith("access-control-")]


@pytest.fixture
def for_pages(api_settings: Settings) -> Settings:
    """Settings with AUTH on, and one origin."""
    return msgspec.structs.replace(api_settings, auth="on", cors_origins=PAGE)


async def test_a_page_of_a_configured_origin_is_allowed(for_pages: Settings, known: Keys) -> None:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    async with services.api(for_pages) as api:
        preflight = await api.options("/stats", headers={"Origin": PAGE, **wanted})  # a browser sends no key with it
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in preflight.headers
        assert faults(preflight) == []

        answer = await api.get("/devices", headers={"Origin": PAGE, **bearer(known.analyst)})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        assert answer.headers["vary"] == "Accept-Encoding, Origin"
        shown = answer.headers["access-control-expose-headers"].split(", ")
        assert {"Link", "X-Next-Cursor", "X-Analysis-Source", "Location", "Retry-After"} <= set(shown)

        refused = await api.get("/devices", headers={"Origin": PAGE})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


async def test_a_page_of_another_origin_is_refused(for_pages: Settings, known: Keys) -> None:
    async with services.api(for_pages) as api:
        for origin in (STRANGER, f"{PAGE}.evil.example", "null", PAGE.replace("https", "http")):
            asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            preflight = await api.options("/devices", headers=asked)
            answer = await api.get("/devices", headers={"Origin": origin, **bearer(known.admin)})
            assert preflight.status_code == 400
            for seen in (preflight, answer):
                assert "access-control-allow-origin" not in seen.headers, origin
