"""Search of all output of a test run for the secrets of the run. A secret that is found fails the run.

Secrets are recorded when they are created or used: the random part of each key and token, passwords for containers, the
secrets in the settings of services and commands under test, and keys that a command prints as its result. Each worker
of pytest searches at its end: logs of services in its process, output of processes, logs of servers, and the bodies of
/metrics, health endpoints and errors.

Tests need no code for it, except if a process writes to a file of the test: that file is passed to `gather`.
"""

import asyncio
import re
import secrets
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import structlog
from structlog.dev import ConsoleRenderer, plain_traceback

from deploy.local.children import EmbeddedServer
from shared.access import credentials
from shared.serving.redaction import Redactor, secrets_of, written
from shared.settings import SECRETS, MqttAddress, Settings

SHORTEST = 12
"""Shorter values are words of a test, which checks them itself."""
_RANDOM_CHARACTERS = 43
_RUN = re.compile(r"[A-Za-z0-9_-]{43,}", re.ASCII)
_CREDENTIAL = re.compile(r"ds(k_[a-z0-9]{8}|t_[0-9]{1,19}|s)_[A-Za-z0-9_-]{43}", re.ASCII)
_GENERATED_CHARACTERS = 64
"""Hexadecimal digits of 256 bits. Shorter values are serial numbers or names."""
_CONTEXT_CHARACTERS = 60
_FAULTS_SHOWN = 40
_REPORT = "disclosure"


class _Search(msgspec.Struct):
    """Secrets and output of this process."""

    random_parts: set[str] = msgspec.field(default_factory=set)
    others: dict[str, str] = msgspec.field(default_factory=dict)  # with the kind of each
    output: list[tuple[str, str]] = msgspec.field(default_factory=list)  # source and text

    def findings(self) -> Iterator[str]:
        """Return a line for each occurrence of a secret: its kind, its source, and the text before it."""
        redact = Redactor(self.others)
        for where, text in self.output:
            for kind, at in self._found_in(text):
                before = text[max(0, at - _CONTEXT_CHARACTERS) : at].rpartition("\n")[2]
                yield redact(f"{kind} in {where}, after {before!r}")

    def _found_in(self, text: str) -> Iterator[tuple[str, int]]:
        for run in _RUN.finditer(text):
            windows = (run[0][at : at + _RANDOM_CHARACTERS] for at in range(len(run[0]) - _RANDOM_CHARACTERS + 1))
            if _CREDENTIAL.search(run[0]) or any(window in self.random_parts for window in windows):
                yield "a key or a token", run.start()
        for secret, kind in self.others.items():
            if (at := text.find(secret)) >= 0:
                yield kind, at

    def report(self) -> dict[str, Any]:
        counts = Counter(self.findings())
        return {
            "findings": [f"{line} ({count} times)" if count > 1 else line for line, count in counts.items()],
            "secrets": len(self.random_parts) + len(self.others),
            "characters": sum(len(text) for _, text in self.output),
        }


_search = _Search()


def note(kind: str, secret: str) -> None:
    """Record a secret, which must not be in any output of the run."""
    if len(secret) >= SHORTEST:
        for form in written(secret):
            _search.others.setdefault(form, kind)


def gather(where: str, text: str | bytes | None) -> None:
    """Record output for the search at the end of the run."""
    if text:
        _search.output.append((where, text if isinstance(text, str) else text.decode(errors="replace")))


def note_settings(settings: dict[str, Any]) -> None:
    """Return the secrets among the variables, by name in lower case."""
    for name in SECRETS:
        value = settings.get(name)
        if value is None and (file := settings.get(f"{name}_file")) and Path(str(file)).is_file():
            value = Path(str(file)).read_text(encoding="utf-8", errors="replace").strip()
        if isinstance(value, str):
            for secret in secrets_of(name, value):
                note(f"DEVICESTAT_{name.upper()}", secret)


def gather_shown(where: str, text: str) -> None:
    """Record the result of a command: its key as a secret, the rest as output."""
    for found in _CREDENTIAL.finditer(text):
        _search.random_parts.add(found[0][-_RANDOM_CHARACTERS:])
    gather(where, _CREDENTIAL.sub("", text))


async def gather_answer(answer: httpx.Response) -> None:
    """Record bodies of telemetry and of errors (an event hook of httpx)."""
    if answer.is_error or answer.request.url.path.startswith(("/metrics", "/health")):
        await answer.aread()
        gather(f"the answer to {answer.request.method} {answer.request.url.path}", answer.text)


class Disclosure:
    """Plugin for pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_controller = bool(getattr(config.option, "dist", "no") != "no" and not hasattr(config, "workerinput"))
        self._reports: dict[str, dict[str, Any] | None] = {}
        _watch()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown" and not self._is_controller:  # the last of the three has all their output
            for name, text in report.sections:
                gather(f"{report.nodeid}: {name}", text)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Collect the result of a worker of pytest-xdist."""
        output: dict[str, Any] = getattr(node, "workeroutput", None) or {}
        self._reports[node.gateway.id] = output.get(_REPORT)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self._is_controller:
            self._reports["this process"] = _search.report()
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[_REPORT] = self._reports["this process"]
        elif self._faults() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _faults(self) -> list[str]:
        silent = [f"{worker} did not report its result" for worker, report in self._reports.items() if report is None]
        return silent + [finding for report in self._heard() for finding in report["findings"]]

    def _heard(self) -> list[dict[str, Any]]:
        return [report for report in self._reports.values() if report is not None]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        faults = self._faults()
        noted, characters = (sum(report[what] for report in self._heard()) for what in ("secrets", "characters"))
        terminalreporter.section("secrets in the output")
        for fault in faults[:_FAULTS_SHOWN]:
            terminalreporter.line(fault, red=True)
        searched = f"searched {characters:,} characters of output for {noted:,} secrets"
        terminalreporter.line(f"{searched}: {f'{len(faults)} faults' if faults else 'none found'}")


def _watch() -> None:
    """Record secrets and output in this process from now on."""
    credentials._encoded = _noting_random_parts(credentials._encoded)
    secrets.token_hex = _noting_passwords(secrets.token_hex)
    for name in SECRETS:
        _watch_setting(name, Settings.__dict__[name])
    _gather_standard_error(subprocess.Popen)
    _gather_standard_error_async(asyncio.subprocess.Process)
    EmbeddedServer.__exit__ = _gathering_log(EmbeddedServer.__exit__)  # type: ignore[method-assign]
    # Logs of services in this process, in their own format, before redaction.
    structlog.configure(
        [
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.set_exc_info,
            ConsoleRenderer(colors=False, exception_formatter=plain_traceback),
        ]
    )


def _noting_random_parts(encoded: Callable[[bytes], str]) -> Callable[[bytes], str]:
    def noting(secret: bytes) -> str:
        text = encoded(secret)
        _search.random_parts.add(text)
        return text

    return noting


def _noting_passwords(token_hex: Callable[..., str]) -> Callable[..., str]:
    def noting(size: int | None = None) -> str:
        text = token_hex(size)
        if len(text) >= _GENERATED_CHARACTERS:
            note("a generated password", text)
        return text

    return noting


def _watch_setting(name: str, member: Any) -> None:
    def read(settings: Settings) -> Any:
        value = member.__get__(settings)
        text = value.url if isinstance(value, MqttAddress) else value
        if isinstance(text, str) and text not in seen:
            seen.add(text)
            note_settings({name: text})
        return value

    seen: set[str] = set()
    setattr(Settings, name, property(read, member.__set__))


def _gather_standard_error(kind: Any) -> None:
    communicate = kind.communicate

    def gathering(process: Any, *arguments: Any, **named: Any) -> Any:
        output, errors = communicate(process, *arguments, **named)
        gather(f"standard error of {process.args}"[:200], errors)
        return output, errors

    kind.communicate = gathering


def _gather_standard_error_async(kind: Any) -> None:
    communicate = kind.communicate

    async def gathering(process: Any, *arguments: Any) -> Any:
        output, errors = await communicate(process, *arguments)
        gather(f"standard error of process {process.pid}", errors)
        return output, errors

    kind.communicate = gathering


def _gathering_log(leave: Callable[..., None]) -> Callable[..., None]:
    def gathering(server: EmbeddedServer, *error: Any) -> None:
        leave(server, *error)
        if server.log.exists():
            gather(f"the log of {type(server).__name__}", server.log.read_bytes())

    return gathering
