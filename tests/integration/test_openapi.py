"""The OpenAPI document, its page, health, metrics, and the start of the API."""

import asyncio
import re
from typing import Any
from urllib.parse import urljoin

import httpx
import msgspec
import psycopg
import pytest

from query_api.dashboard.assets import read_assets
from query_api.readings.formats import negotiation as formats
from shared.errors import DatabaseUnreachable, DevicestatError, LocalError, SchemaTooOld
from shared.settings import Settings
from tests import locks, services
from tests.ports import free_port
from tests.roles import as_role
from tests.services import serve
from tests.waiting import HANG_S, eventually

OPERATIONS = {
    "POST /devices", "GET /devices", "GET /devices/states", "GET /devices/{device_id}", "PATCH /devices/{device_id}",
    "DELETE /devices/{device_id}", "POST /devices/{device_id}/token", "POST /stats", "GET /stats/{device_id}",
    "GET /stats/{device_id}/latest", "GET /stats/{device_id}/live", "GET /stats/{device_id}/series",
    "GET /stats/series", "GET /stats/live", "GET /stats/{device_id}/buckets", "GET /stats/{device_id}/histogram",
    "GET /stats/analysis", "GET /stats/analysis/{device_id}", "POST /stats/analysis/{device_id}/async",
    "GET /stats/analysis/requests/{request_id}", "DELETE /stats/analysis/requests/{request_id}",
    "POST /stats/analysis/schedules", "GET /stats/analysis/schedules", "GET /stats/analysis/schedules/{schedule_id}",
    "PATCH /stats/analysis/schedules/{schedule_id}", "DELETE /stats/analysis/schedules/{schedule_id}",
    "GET /stats/analysis/schedules/preview", "GET /stats/analysis/schedules/{schedule_id}/ticks",
    "GET /stats/analysis/requests/counts", "POST /stats/analysis/requests/{request_id}/retry",
    "GET /stats/analysis/result/{device_id}",
    "GET /stats/analysis/requests", "GET /stats/analysis/result/{device_id}/{result_id}",
    "POST /session", "GET /session", "DELETE /session", "POST /keys", "GET /keys", "GET /keys/{prefix}",
    "DELETE /keys/{prefix}", "POST /keys/{prefix}/rotate", "GET /audit", "GET /status",
    "GET /dead-letters", "DELETE /dead-letters",
    "GET /dead-letters/counts", "GET /dead-letters/total", "POST /dead-letters/replay", "GET /dead-letters/{letter_id}",
    "DELETE /stats/analysis/result/{device_id}/{result_id}", "GET /problems", "GET /problems/{name}",
    "GET /health/live",
    "GET /health/ready", "GET /metrics",
}  # fmt: skip


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


async def test_the_document_describes_every_operation(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    found = operations(document)
    assert set(found) == OPERATIONS
    for name, operation in found.items():
        assert operation["summary"], name
        assert all(parameter["description"] for parameter in operation.get("parameters", [])), name
        for status, response in operation["responses"].items():
            if status[0] in "45" and not name.endswith(("/health/ready", "/metrics", "/health/live")):
                assert list(response["content"]) == ["application/problem+json"], (name, status)


async def test_the_document_describes_every_field(api: httpx.AsyncClient) -> None:
    schemas = (await api.get("/openapi.json")).json()["components"]["schemas"]
    ours = {
        "NewDevice",
        "Device",
        "RegisteredDevice",
        "IssuedToken",
        "NewReading",
        "StoredReading",
        "AnalysisRequest",
        "AnalysisResult",
        "RequestCounts",
        "Schedule",
        "SchedulePreview",
        "PlannedTick",
        "ScheduleTick",
        "ProblemDetails",
        "Figures",
        "Measurement",
        "AxisHistograms",
        "Bins",
        "DeviceAnalysis",
        "SignIn",
        "Session",
        "NewAccessKey",
        "KeyReplacement",
        "Key",
        "IssuedKey",
        "AuditEntry",
        "DeadLetter",
        "WholeDeadLetter",
        "LetterFault",
        "DeadLetterCount",
        "Replays",
        "ReplayOutcomes",
        "ReplayOutcome",
        "Purged",
    }
    assert ours <= set(schemas)
    undescribed = [
        f"{name}.{field}"
        for name in ours
        for field, schema in schemas[name]["properties"].items()
        if "description" not in schema and "$ref" not in schema
    ]
    assert undescribed == []
    key = schemas["NewDevice"]["properties"]["key"]
    assert key["pattern"].endswith("{1,128}$")
    x = schemas["NewReading"]["properties"]["x"]
    assert (x["minimum"], x["maximum"]) == (-1000, 1000)


async def test_the_streams_are_documented(api: httpx.AsyncClient) -> None:
    found = operations((await api.get("/openapi.json")).json())["GET /stats/{device_id}"]
    content = found["responses"]["200"]["content"]
    assert list(content) == [form.media_type for form in formats.ALL]


async def test_the_page_loads_nothing_from_other_hosts(api: httpx.AsyncClient) -> None:
    page = await api.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    sources = re.findall(r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=['"]([^'"]+)""", page.text)
    assert len(sources) == 4
    for source in (source for source in sources if source != "data:,"):
        assert urljoin("http://here/docs", source).startswith(("http://here/docs/", "http://here/assets/"))
        asset = await api.get(source)
        assert (asset.status_code, len(asset.content) > 100) == (200, True), source
    assert "SwaggerUIBundle" in (await api.get("/docs/start.js")).text
    assert "StoredReading" in page.text


async def test_each_error_has_its_example(api: httpx.AsyncClient) -> None:
    found = operations((await api.get("/openapi.json")).json())
    assert found["POST /stats"]["responses"]["201"]["description"] == "Stored."
    for name in OPERATIONS - {"GET /health/live", "GET /health/ready", "GET /metrics", "GET /problems"}:
        for status, response in found[name]["responses"].items():
            if status[0] in "45":
                examples = response["content"]["application/problem+json"]["examples"]
                assert {example["value"]["status"] for example in examples.values()} == {int(status)}, (name, status)


async def test_head_is_get_without_the_content(api: httpx.AsyncClient, device: int) -> None:
    for path in (
        f"/devices/{device}",
        f"/stats/{device}",
        "/docs",
        read_assets().address("node_modules/swagger-ui-dist/swagger-ui.css"),
        "/health/live",
        "/",
    ):
        got, head = await api.get(path), await api.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-type", "content-length"):
            assert head.headers.get(name) == got.headers.get(name)
    assert (await api.head("/nothing")).status_code == 404
    assert (await api.head("/stats")).status_code == 405
    stream = await api.head(f"/stats/{device}", headers={"accept": "text/csv"})
    assert (stream.status_code, stream.headers["content-type"]) == (200, "text/csv; charset=utf-8")


async def test_requests_are_counted_by_route(api: httpx.AsyncClient, device: int) -> None:
    await api.get(f"/stats/{device}")
    await api.get(f"/stats/{device}/")
    await api.get("/stats/999")
    await api.get("/nothing/here")
    await api.request("PROPFIND", "/devices")
    text = (await api.get("/metrics")).text
    counted = dict(re.findall(r"^devicestat_http_requests_total(\{.*\}) (\S+)$", text, re.MULTILINE))
    assert counted['{method="GET",route="/stats/{device_id}",status="200"}'] == "2.0"
    assert counted['{method="GET",route="/stats/{device_id}",status="404"}'] == "1.0"
    assert counted['{method="GET",route="none",status="404"}'] == "1.0"
    assert counted['{method="POST",route="/devices",status="201"}'] == "1.0"
    assert counted['{method="other",route="none",status="405"}'] == "1.0"
    assert 'devicestat_http_request_seconds_count{method="GET",route="/stats/{device_id}",status="200"} 2.0' in text


async def test_health(api: httpx.AsyncClient) -> None:
    live, ready = await api.get("/health/live"), await api.get("/health/ready")
    assert (live.status_code, live.json()["status"]) == (200, "live")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "parts": {"database": "ok"}})


# The start.


async def refusal(settings: Settings) -> DevicestatError:
    with pytest.raises(DevicestatError) as raised:
        async with asyncio.timeout(HANG_S):
            await serve(settings, asyncio.Event())
    return raised.value


async def test_an_unreachable_database_is_named(api_settings: Settings) -> None:
    port = free_port()
    url = f"postgresql://someone:secret@127.0.0.1:{port}/nowhere"
    error = await refusal(msgspec.structs.replace(api_settings, database_url=url, start_timeout="1s"))
    assert isinstance(error, DatabaseUnreachable)
    assert f"127.0.0.1:{port}/nowhere" in str(error)
    assert "secret" not in str(error)


async def test_the_error_for_an_empty_database_names_the_migration(
    empty_database_url: str, api_settings: Settings
) -> None:
    error = await refusal(msgspec.structs.replace(api_settings, database_url=empty_database_url))
    assert isinstance(error, SchemaTooOld)
    assert "devicestat migrate" in str(error)


async def test_a_taken_port_is_named(api: httpx.AsyncClient, api_settings: Settings) -> None:
    error = await refusal(api_settings)
    assert isinstance(error, LocalError)
    assert str(api_settings.http_port) in str(error)
    assert "DEVICESTAT_HTTP_PORT" in str(error)


async def test_a_request_in_progress_is_answered_before_the_stop(
    api_settings: Settings, database: psycopg.AsyncConnection[Any]
) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(as_role(api_settings, "api"), stop))
        await eventually(lambda: services.is_ready(api_settings.http_port), bool)
        async with services.client_of(api_settings.http_port) as client:
            async with database.transaction():
                await database.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
                request = tasks.create_task(client.get("/devices"))
                await eventually(lambda: locks.waiting(database, "devices"), bool)
                stop.set()
            answer = await request
        assert (answer.status_code, answer.json()) == (200, [])
        await serving
