"""Health and metrics of several ingestors, fetched from each of them at every request.

Each sample has the label `process`. The counts of each process are consistent, and so are their sums.
"""

import asyncio
import socket
from collections.abc import Iterable, Mapping
from http import HTTPStatus

import httpx
import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from shared.access.bearer import showing
from shared.serving.service import serve_http
from shared.serving.telemetry import Health, HealthReport, Readiness, TelemetryAccess
from shared.serving.telemetry_app import TelemetryApp

TIMEOUT_S = 2.0
NO_ANSWER = "does not respond"

Members = Mapping[int, str]
"""Base URLs of the processes' telemetry, by process number."""


class CombinedTelemetry:
    """Health and metrics of all processes. `members` is empty until they are started.

    `health`: health of the command. `access`: access rules for the metrics, here and at each process.
    """

    def __init__(self, health: Health, access: TelemetryAccess) -> None:
        self.health = health
        self._access = access
        self.members: Members = {}

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve health and metrics on the socket until `stop` is set."""
        headers = showing(self._access.token)
        plain = httpx.AsyncHTTPTransport(verify=False)  # no TLS on loopback, so no certificates to read
        async with httpx.AsyncClient(timeout=TIMEOUT_S, transport=plain, headers=headers) as http:
            await serve_http(self._app(http), listener, stop, lifespan="off", hosts=self._access.hosts)

    def _app(self, http: httpx.AsyncClient) -> TelemetryApp:
        async def readiness() -> Readiness:
            answers = await _ask(http, self.members, "/health/ready")
            is_ready = self.health.is_ready and all(map(_is_ready, answers.values()))
            return Readiness(is_ready, {**self.health.report(), **dict(_parts(answers))})

        async def metrics() -> CollectorRegistry:
            answers = await _ask(http, self.members, "/metrics")
            return _Merged({number: answer.text for number, answer in answers.items() if answer is not None})

        return TelemetryApp(readiness, metrics, self._access)


_Answers = Mapping[int, httpx.Response | None]


async def _ask(http: httpx.AsyncClient, members: Members, path: str) -> _Answers:
    answers = await asyncio.gather(*(_get(http, url + path) for url in members.values()))
    return dict(zip(members, answers, strict=True))


async def _get(http: httpx.AsyncClient, url: str) -> httpx.Response | None:
    try:
        return await http.get(url)
    except httpx.HTTPError:
        return None


def _is_ready(answer: httpx.Response | None) -> bool:
    return answer is not None and answer.status_code == HTTPStatus.OK


def _parts(answers: _Answers) -> Iterable[tuple[str, str]]:
    for number, answer in answers.items():
        if answer is None:
            yield f"process {number}", NO_ANSWER
            continue
        report = msgspec.json.decode(answer.content, type=HealthReport)
        for part, state in report.parts.items():
            yield f"process {number}: {part}", state


class _Merged(CollectorRegistry):
    """Metrics of all processes; each sample has the label of its process."""

    def __init__(self, texts: Mapping[int, str]) -> None:
        super().__init__()
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for number, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.samples.append(sample._replace(labels={"process": str(number), **sample.labels}))
        return families.values()
