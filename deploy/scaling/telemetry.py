"""Health and metrics of several ingestors, gathered from each when they are asked for.

A sample has the label `process`; what each of them counts adds up by itself, and so does the sum.
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
NO_ANSWER = "does not answer"

Members = Mapping[int, str]
"""The processes' numbers, and the base URLs of what they serve."""


class CombinedTelemetry:
    """What is served for all of them together; of the `members`, nobody is asked before they are known.

    `health`: what the command that runs them says of itself. `access`: what is to be shown for
    the metrics, of all and of each.
    """

    def __init__(self, health: Health, access: TelemetryAccess) -> None:
        self.health = health
        self._access = access
        self.members: Members = {}

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serves health and metrics on the socket until `stop` is set."""
        headers = showing(self._access.token)
        plain = httpx.AsyncHTTPTransport(verify=False)  # no TLS on loopback: it need not read certificates
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
    """The families of all texts, each sample with its process."""

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
