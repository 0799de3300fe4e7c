"""Readiness and lag of the running ingestor, from its health and metrics."""

from collections.abc import Mapping
from contextlib import suppress

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from psycopg import Error as PostgresError

from deploy.devices.api_client import base_url
from shared.access.bearer import showing
from shared.broker.names import probe_topic
from shared.errors import DevicestatError
from shared.postgres.connections import connect
from shared.settings import Settings
from shared.status.findings import Finding, Severity
from shared.status.words import counted, printable

TIMEOUT_S = 3.0
TOLERATED_LAG_S = 5.0
"""Added to the linger time of a batch."""
_LAG = "devicestat_ingest_lag_seconds"
_IN_FLIGHT = "devicestat_ingest_readings_in_flight"
_PROBE_REFUSED = "devicestat_ingest_probe_refused"


class _Health(msgspec.Struct):
    parts: dict[str, str]


async def examine_ingestor(settings: Settings, tolerated_lag_s: float = TOLERATED_LAG_S) -> list[Finding]:
    """Read health and metrics at DEVICESTAT_HTTP_HOST and DEVICESTAT_INGESTOR_METRICS_PORT."""
    port = settings.ingestor_metrics_port
    if port == 0:
        text = "lag unknown: DEVICESTAT_INGESTOR_METRICS_PORT is 0"
        return [Finding(Severity.OK, "ingestor", text)]
    url = base_url(settings.http_host, port)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
            client.headers.update(showing(settings.metrics_token))
            health = await client.get("/health/ready")
            metrics = await client.get("/metrics")
    except httpx.HTTPError:
        return [await _elsewhere(settings, url)]
    figures = _figures(metrics)
    tolerated_s = tolerated_lag_s + settings.batch_linger_ms / 1000
    return [_readiness(url, health), _lag(url, metrics, figures, tolerated_s), *_probe(settings, figures)]


# Only a superuser and members of pg_monitor see the address. It is null for a Unix socket.
_CONNECTED = """
    SELECT DISTINCT coalesce(host(client_addr), '') FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'devicestat ingestor'
"""


async def _elsewhere(settings: Settings, url: str) -> Finding:
    """Look for the database connection of an ingestor on another host or in another container."""
    found: list[tuple[str]] = []
    with suppress(DevicestatError, PostgresError):  # the database's own finding
        async with await connect(settings.database, "doctor") as connection:
            found = await (await connection.execute(_CONNECTED)).fetchall()
    if not found:
        return Finding(Severity.WARNING, "ingestor", f"no ingestor responds at {url}: is `devicestat ingest` running?")
    hosts = ", ".join(sorted(host for (host,) in found if host))
    where = f"connected to the database from {hosts}" if hosts else "connected to the database"
    advice = "run the doctor on the ingestor's host to see its lag"
    return Finding(Severity.OK, "ingestor", f"{where}, but it does not respond at {url}: {advice}")


def _readiness(url: str, response: httpx.Response) -> Finding:
    if response.is_success:
        return Finding(Severity.OK, "ingestor", f"ready at {url}")
    try:
        parts = msgspec.json.decode(response.content, type=_Health).parts
    except msgspec.DecodeError:
        advice = "is DEVICESTAT_INGESTOR_METRICS_PORT right?"
        return Finding(Severity.WARNING, "ingestor", f"the service at {url} is not an ingestor: {advice}")
    faults = "; ".join(f"{part}: {fault}" for part, fault in parts.items() if fault != "ok")
    faults = faults or "set DEVICESTAT_METRICS_TOKEN to see why"
    return Finding(Severity.WRONG, "ingestor", printable(f"the ingestor at {url} is not ready: {faults}"))


def _lag(url: str, response: httpx.Response, figures: Mapping[str, list[float]], tolerated_s: float) -> Finding:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        advice = "set DEVICESTAT_METRICS_TOKEN to the ingestor's token"
        return Finding(Severity.WARNING, "lag", f"the metrics at {url} require another token: {advice}")
    if not {_LAG, _IN_FLIGHT} <= figures.keys():
        return Finding(Severity.WARNING, "lag", f"no metrics of the lag at {url}: is that an ingestor of this version?")
    lag_s, in_flight = max(figures[_LAG]), counted(int(sum(figures[_IN_FLIGHT])), "reading")
    if lag_s <= tolerated_s:
        return Finding(Severity.OK, "lag", f"{lag_s:.1f} s, with {in_flight} in flight")
    text = f"a reading received {lag_s:.0f} s ago is not committed yet ({in_flight} in flight)"
    return Finding(Severity.WARNING, "lag", f"{text}: is the database slow or unreachable?")


def _probe(settings: Settings, figures: Mapping[str, list[float]]) -> list[Finding]:
    """Report a refused probe of the ingestor. The doctor sends no probe: a full queue would drop another message."""
    if not any(figures.get(_PROBE_REFUSED, ())):
        return []
    topic = probe_topic(settings.mqtt_topic)
    text = (
        f"the broker refuses a message to {topic}, with which the ingestor tests its subscription while no messages "
        "arrive: allow it to the user of DEVICESTAT_MQTT_URL. Until then the ingestor subscribes again instead, and "
        "readiness does not show a subscription that the broker has ended"
    )
    return [Finding(Severity.WARNING, "probe", text)]


def _figures(response: httpx.Response) -> Mapping[str, list[float]]:
    """Return the values by name, one for each process; none if the response is not in the exposition format."""
    figures: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families(response.text if response.is_success else ""):
            for sample in family.samples:
                figures.setdefault(sample.name, []).append(sample.value)
    except ValueError:
        return {}
    return figures
