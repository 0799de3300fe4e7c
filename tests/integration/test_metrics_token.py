"""METRICS_TOKEN on the ports of ingestor and worker: metrics and faults of parts require it."""

import json
from collections.abc import Callable

import httpx
import pytest
from litestar.status_codes import HTTP_200_OK, HTTP_401_UNAUTHORIZED

from deploy.doctor.ingestor import examine_ingestor
from shared.serving.closed import require_closed_telemetry
from shared.settings import Settings
from shared.status.findings import Severity
from tests import services
from tests.command import run
from tests.credentials import bearer
from tests.ingestion import IngestorProcess, running_ingestor
from tests.ports import free_port
from tests.services import client_of, is_ready
from tests.waiting import eventually

TOKEN = "a-token-for-prometheus"
Make = Callable[..., Settings]


async def expect_closed_to_others(port: int) -> httpx.Response:
    """Assert that metrics require the token; return the response with it."""
    async with client_of(port) as client:
        for path in ("/metrics", "/metrics/"):
            for headers in ({}, bearer(f"{TOKEN}x"), bearer(TOKEN[:-1]), {"Authorization": f"Basic {TOKEN}"}):
                refused = await client.get(path, headers=headers)
                assert refused.status_code == HTTP_401_UNAUTHORIZED, (path, headers)
                assert refused.headers["WWW-Authenticate"].startswith("Bearer ")
                assert "devicestat_" not in refused.text
                assert TOKEN not in refused.text
        for path in ("/health/live", "/health/ready"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["parts"]) == (HTTP_200_OK, {})
        assert (await client.get("/health/ready", headers=bearer(TOKEN))).json()["parts"]
        shown = await client.get("/metrics", headers=bearer(TOKEN))
    assert shown.status_code == HTTP_200_OK
    return shown


async def test_the_ingestors_figures_and_the_doctor_that_reads_them(make_settings: Make) -> None:
    settings = make_settings(metrics_token=TOKEN)
    async with running_ingestor(settings):
        shown = await expect_closed_to_others(settings.ingestor_metrics_port)
        assert "devicestat_ingest_readings_received_total" in shown.text
        with_it = await examine_ingestor(settings)
        assert [finding.severity for finding in with_it] == [Severity.OK, Severity.OK]
        for other in (None, f"another {TOKEN}"):
            ready, lag = await examine_ingestor(make_settings(metrics_token=other, **ports_of(settings)))
            assert (ready.severity, lag.severity) == (Severity.OK, Severity.WARNING)
            assert "DEVICESTAT_METRICS_TOKEN" in lag.text


def ports_of(settings: Settings) -> dict[str, object]:
    return {"ingestor_metrics_port": settings.ingestor_metrics_port}


async def test_the_workers_figures(make_settings: Make) -> None:
    settings = make_settings(metrics_token=TOKEN)
    async with services.worker(settings):
        await eventually(lambda: is_ready(settings.worker_metrics_port), bool)
        await expect_closed_to_others(settings.worker_metrics_port)


async def test_several_ingestors_show_it_to_each_other(
    make_settings: Make, start_ingestor: Callable[..., IngestorProcess]
) -> None:
    settings = make_settings(metrics_token=TOKEN)
    process = start_ingestor(settings, "--processes", 2)
    await process.until_ready()
    shown = await expect_closed_to_others(settings.ingestor_metrics_port)
    for number in (1, 2):
        assert f'devicestat_ingest_readings_received_total{{process="{number}"}} 0.0' in shown.text
    code, logged = await process.end()
    assert code == 0, logged
    assert TOKEN not in logged


async def test_with_auth_and_without_a_token_they_take_nobody(make_settings: Make) -> None:
    settings = make_settings(auth="on")
    async with running_ingestor(settings), client_of(settings.ingestor_metrics_port) as client:
        refused = await client.get("/metrics", headers=bearer(TOKEN))
        assert refused.status_code == HTTP_401_UNAUTHORIZED
        assert "DEVICESTAT_METRICS_TOKEN, which is not set here" in refused.text
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["parts"]) == (HTTP_200_OK, {})
        named = await client.get("/health/ready", headers={"Host": "ingestor.example.com"})
        assert named.status_code == HTTP_200_OK


@pytest.mark.parametrize(("command", "port"), [("ingest", "ingestor_metrics_port"), ("work", "worker_metrics_port")])
def test_they_are_not_open_to_the_network(command: str, port: str) -> None:
    away = {"database_url": "postgresql://nobody@127.0.0.1:1/none", "mqtt_url": "mqtt://127.0.0.1:1"}
    elsewhere = {**away, "http_host": "0.0.0.0", port: free_port(), "start_timeout": "1s"}
    refused = run(command, **elsewhere)
    assert refused.returncode == 1
    assert "DEVICESTAT_METRICS_TOKEN" in refused.stderr
    assert "--insecure" in refused.stderr
    allowed = run(command, "--insecure", log_format="json", **elsewhere)
    assert "the metrics require no token" in json.loads(allowed.stderr.splitlines()[0])["event"]


@pytest.mark.parametrize(
    "closed", [{"metrics_token": TOKEN}, {"auth": "on"}, {"ingestor_metrics_port": 0}, {"http_host": "127.0.0.1"}]
)
def test_what_is_closed_starts(closed: dict[str, object]) -> None:
    settings = Settings(**{"http_host": "0.0.0.0", **closed})
    require_closed_telemetry(settings, settings.ingestor_metrics_port, insecure=False)


async def test_without_one_they_take_anybody(make_settings: Make) -> None:
    settings = make_settings()
    async with running_ingestor(settings), client_of(settings.ingestor_metrics_port) as client:
        assert (await client.get("/metrics")).status_code == HTTP_200_OK
        assert (await client.get("/metrics", headers=bearer(TOKEN))).status_code == HTTP_200_OK
