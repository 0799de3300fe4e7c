"""Permissions: every route of the application, with every kind of credentials and without any."""

import httpx
import msgspec
import pytest

from query_api.dashboard.assets import read_assets
from query_api.web.gate import handlers_of
from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import services
from tests.application import application
from tests.broker_questions import SECRET
from tests.credentials import Keys, bearer, keys

NOBODY = {"no key", "no scheme", "another scheme", "revoked", "expired", "unknown", "other secret", "unknown token"}
ADMIN, ANALYST, WRITER, DEVICE, OTHER = "admin", "analyst", "writer", "the device", "another device"
READERS = {ADMIN, ANALYST}
ANYBODY = {*NOBODY, ADMIN, ANALYST, WRITER, DEVICE, OTHER}
ALLOWED = {
    "GET /health/live": ANYBODY,
    "GET /health/ready": READERS,
    "GET /metrics": READERS,
    "GET /": ANYBODY,
    "GET /ui": ANYBODY,
    "GET /ui/devices": ANYBODY,
    "GET /ui/devices/{device_id:int}": ANYBODY,
    "GET /ui/compare": ANYBODY,
    "GET /ui/live": ANYBODY,
    "GET /ui/health": ANYBODY,
    "GET /ui/analyses": ANYBODY,
    "GET /ui/schedules": ANYBODY,
    "GET /ui/refused": ANYBODY,
    "GET /ui/keys": ANYBODY,
    "GET /ui/sign-in": ANYBODY,
    "GET /assets/{version:str}/{file_path:path}": ANYBODY,
    "GET /openapi.json": ANYBODY,
    "GET /docs": ANYBODY,
    "GET /docs/{path:str}": ANYBODY,
    "GET /docs/start.js": ANYBODY,
    "GET /docs/openapi.json": ANYBODY,
    "GET /problems": ANYBODY,
    "GET /problems/{name:str}": ANYBODY,
    "POST /session": ANYBODY,
    "GET /session": {ADMIN, ANALYST, WRITER, DEVICE, OTHER},
    "DELETE /session": ANYBODY,
    "POST /keys": {ADMIN},
    "GET /keys": {ADMIN},
    "GET /keys/{prefix:str}": {ADMIN},
    "DELETE /keys/{prefix:str}": {ADMIN},
    "POST /keys/{prefix:str}/rotate": {ADMIN},
    "GET /audit": {ADMIN},
    "GET /status": READERS,
    "GET /dead-letters": {ADMIN},
    "DELETE /dead-letters": {ADMIN},
    "GET /dead-letters/counts": {ADMIN},
    "GET /dead-letters/total": {ADMIN},
    "POST /dead-letters/replay": {ADMIN},
    "GET /dead-letters/{letter_id:str}": {ADMIN},
    "POST /devices": {ADMIN},
    "GET /devices": READERS,
    "GET /devices/states": READERS,
    "GET /devices/{device_id:str}": READERS,
    "PATCH /devices/{device_id:str}": {ADMIN},
    "DELETE /devices/{device_id:str}": {ADMIN},
    "POST /devices/{device_id:str}/token": {ADMIN},
    "POST /stats": {ADMIN, WRITER, DEVICE},
    "GET /stats/{device_id:str}": READERS,
    "GET /stats/{device_id:str}/latest": READERS,
    "GET /stats/{device_id:str}/live": READERS,
    "GET /stats/{device_id:str}/series": READERS,
    "GET /stats/{device_id:str}/buckets": READERS,
    "GET /stats/{device_id:str}/histogram": READERS,
    "GET /stats/series": READERS,
    "GET /stats/live": READERS,
    "GET /stats/analysis": READERS,
    "GET /stats/analysis/{device_id:str}": READERS,
    "POST /stats/analysis/{device_id:str}/async": READERS,
    "GET /stats/analysis/requests": READERS,
    "GET /stats/analysis/requests/{request_id:str}": READERS,
    "DELETE /stats/analysis/requests/{request_id:str}": READERS,
    "GET /stats/analysis/requests/counts": READERS,
    "POST /stats/analysis/requests/{request_id:str}/retry": READERS,
    "GET /stats/analysis/result/{device_id:str}": READERS,
    "GET /stats/analysis/result/{device_id:str}/{result_id:str}": READERS,
    "DELETE /stats/analysis/result/{device_id:str}/{result_id:str}": {ADMIN},
    "POST /stats/analysis/schedules": READERS,
    "GET /stats/analysis/schedules": READERS,
    "GET /stats/analysis/schedules/{schedule_id:str}": READERS,
    "PATCH /stats/analysis/schedules/{schedule_id:str}": READERS,
    "DELETE /stats/analysis/schedules/{schedule_id:str}": READERS,
    "GET /stats/analysis/schedules/preview": READERS,
    "GET /stats/analysis/schedules/{schedule_id:str}/ticks": READERS,
}
"""Roles that each route allows. HEAD is as GET, and OPTIONS requires any valid credentials."""
ASKED_BY_BROKERS = {
    "POST /mqtt/authenticate", "POST /mqtt/authorize", "POST /mqtt/go-auth/user", "POST /mqtt/go-auth/superuser",
    "POST /mqtt/go-auth/acl",
}  # fmt: skip
"""Routes that are there with MQTT_AUTH_SECRET, and for that secret alone."""
NOT_THERE = "999999"
"""An id that nothing has, so that an allowed request changes nothing."""


def routes(**settings: str) -> set[str]:
    """Every route of the application, as method and path."""
    return {
        f"{method} {route.path}"
        for route in application(**settings).routes
        for handler in handlers_of(route)
        for method in getattr(handler, "http_methods", ["GET"])
    }


def test_every_route_has_its_permission() -> None:
    found = routes()
    with_options = {f"OPTIONS {name.partition(' ')[2]}" for name in ALLOWED}
    with_head = {f"HEAD {name.partition(' ')[2]}" for name in ALLOWED}
    assert found - with_options - with_head == set(ALLOWED)
    assert len(found) > 30


def test_the_routes_of_brokers_exist_only_with_their_secret() -> None:
    added = routes(mqtt_auth_secret=SECRET) - routes()
    assert {route for route in added if not route.startswith("OPTIONS ")} == ASKED_BY_BROKERS


def test_an_application_with_a_route_without_permission_does_not_start() -> None:
    from litestar import Litestar, get

    from query_api.web.gate import require_rules

    @get("/forgotten", sync_to_thread=False)
    def forgotten() -> str:
        return "secrets"

    with pytest.raises(LookupError, match="forgotten"):
        require_rules(Litestar([forgotten], openapi_config=None))


def path_of(template: str) -> str:
    """Return a path of the route."""
    parameters = ("{letter_id:str}", "{device_id:str}", "{device_id:int}", "{request_id:str}", "{result_id:str}")
    for parameter in (*parameters, "{schedule_id:str}"):
        template = template.replace(parameter, NOT_THERE)
    return (
        template.replace("{name:str}", "forbidden")
        .replace("{version:str}/{file_path:path}", f"{read_assets().version}/static/main.js")
        .replace("{prefix:str}", "dsk_00000000")
        .replace("//", "/")
        .replace("{path:str}", "x")
    )


def body_of(route: str, device: int) -> object:
    return {
        "POST /session": {},
        "POST /keys": {"role": "writer"},
        "POST /dead-letters/replay": {},
        "POST /keys/{prefix:str}/rotate": {},
        "POST /devices": {"name": "renamed"},
        "PATCH /devices/{device_id:str}": {"name": "renamed"},
        "POST /stats": {"device_id": device, "x": 1, "y": 2, "z": 3, "timestamp": 1_769_860_800},
        "POST /stats/analysis/schedules": {"device_id": int(NOT_THERE), "cron": "0 0 * * *", "period": "P1D"},
        "PATCH /stats/analysis/schedules/{schedule_id:str}": {"paused": True},
    }.get(route)


async def shown(api: httpx.AsyncClient, made: Keys) -> tuple[int, dict[str, dict[str, str]]]:
    """A device, and the headers of every kind of credentials."""
    device, other = [
        (await api.post("/devices", json={"name": "n"}, headers=bearer(made.admin))).json() for _ in range(2)
    ]
    token = device["token"]
    return device["id"], {
        "no key": {},
        "no scheme": {"Authorization": made.admin},
        "another scheme": {"Authorization": f"Basic {made.admin}"},
        "revoked": bearer(made.revoked),
        "expired": bearer(made.expired),
        "unknown": bearer(made.unknown),
        "other secret": bearer(made.other_secret),
        "unknown token": bearer(token[:-8] + token[:-8][-8:]),
        ADMIN: bearer(made.admin),
        ANALYST: bearer(made.analyst),
        WRITER: bearer(made.writer),
        DEVICE: bearer(token),
        OTHER: bearer(other["token"]),
    }


def is_right(status: int, name: str, allowed: set[str]) -> bool:
    """Return whether the request was allowed or refused as expected."""
    if name in allowed:
        return status not in (401, 403)
    return status == (401 if name in NOBODY else 403)


@pytest.fixture
def closed(api_settings: Settings) -> Settings:
    """Settings with AUTH on."""
    return msgspec.structs.replace(api_settings, auth="on")


async def test_each_route_allows_its_roles_only(closed: Settings, database: Database) -> None:
    made = await keys(database)
    async with services.client_of(closed.http_port) as api, services.api(closed):
        device, credentials = await shown(api, made)
        wrong = []
        for route, allowed in ALLOWED.items():
            method, _, template = route.partition(" ")
            for name, headers in credentials.items():
                for asked in ("GET", "HEAD") if method == "GET" else (method,):
                    answer = await api.request(asked, path_of(template), headers=headers, json=body_of(route, device))
                    if not is_right(answer.status_code, name, allowed):
                        wrong.append((asked, template, name, answer.status_code))
                    assert answer.status_code < 500, (route, name)
        assert wrong == []
        assert credentials.keys() == ANYBODY


async def test_the_secret_of_brokers_is_valid_for_their_routes_only(closed: Settings, database: Database) -> None:
    made = await keys(database)
    asked = msgspec.structs.replace(closed, mqtt_auth_secret=SECRET)
    async with services.client_of(closed.http_port) as api, services.api(asked):
        device, credentials = await shown(api, made)
        for route in ASKED_BY_BROKERS:
            path = route.partition(" ")[2]
            for name, headers in credentials.items():
                assert (await api.post(path, headers=headers, json={})).status_code == 401, (route, name)
            assert (await api.post(path, headers=bearer(SECRET), json={})).status_code in (200, 403), route
        for route, allowed in ALLOWED.items():
            method, _, template = route.partition(" ")
            answer = await api.request(method, path_of(template), headers=bearer(SECRET), json=body_of(route, device))
            assert (answer.status_code == 401) is (allowed != ANYBODY), route


async def test_options_requires_any_valid_credentials(closed: Settings, database: Database) -> None:
    made = await keys(database)
    async with services.client_of(closed.http_port) as api, services.api(closed):
        _, credentials = await shown(api, made)
        for name, headers in credentials.items():
            answer = await api.request("OPTIONS", "/devices", headers=headers)
            assert answer.status_code == (401 if name in NOBODY else 204), name


async def test_a_refusal_states_its_reason(closed: Settings, database: Database) -> None:
    made = await keys(database)
    async with services.client_of(closed.http_port) as api, services.api(closed):
        device, credentials = await shown(api, made)
        none = await api.get("/devices")
        assert (none.status_code, none.headers["www-authenticate"]) == (401, 'Bearer realm="devicestat"')
        assert none.json()["type"] == "/problems/unauthenticated"
        old = await api.get("/devices", headers=bearer(made.revoked))
        assert old.headers["www-authenticate"] == 'Bearer realm="devicestat", error="invalid_token"'
        assert made.revoked not in old.text
        writer = await api.get("/devices", headers=bearer(made.writer))
        assert writer.json()["detail"] == "this requires an admin key or an analyst key, not a writer key"
        assert 'error="insufficient_scope"' in writer.headers["www-authenticate"]
        readings = [{"device_id": number, "x": 1, "y": 1, "z": 1} for number in (device, device + 1)]
        foreign = await api.post("/stats", json=readings, headers=credentials[DEVICE])
        assert foreign.status_code == 403
        assert foreign.json()["detail"] == f"this is the token of device {device}, and stores only its readings"


async def test_everything_is_allowed_while_auth_is_off(api: httpx.AsyncClient) -> None:
    assert (await api.post("/devices", json={"name": "n"})).status_code == 201
    assert (await api.get("/metrics")).status_code == 200
    assert (await api.get("/devices", headers=bearer("nonsense"))).status_code == 200


async def test_the_metrics_accept_their_token(closed: Settings, database: Database) -> None:
    made = await keys(database)
    token = "a-token-of-prometheus"
    for auth, others in (("on", (made.admin, made.analyst)), ("off", ())):
        settings = msgspec.structs.replace(closed, auth=auth, metrics_token=token)
        async with services.client_of(settings.http_port) as api, services.api(settings):
            for credential in (token, *others):
                assert (await api.get("/metrics", headers=bearer(credential))).status_code == 200
            assert (await api.get("/metrics")).status_code == 401
            assert (await api.get("/metrics", headers=bearer(f"{token}x"))).status_code == 401
            if auth == "on":
                assert (await api.get("/devices", headers=bearer(token))).status_code == 401
                assert (await api.get("/metrics", headers=bearer(made.writer))).status_code == 403
