"""The `devicestat` command and `devicestat up` as processes."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx

from shared.settings import MqttAddress
from tests.disclosure import gather, gather_shown, note_settings
from tests.ports import free_port
from tests.waiting import HANG_S, eventually


def argv(*arguments: object) -> list[str]:
    """Return the command line of a devicestat command."""
    return [sys.executable, "-P", "-m", "deploy.cli.main", *map(str, arguments)]


def environment(**settings: object) -> dict[str, str]:
    """Return this process's environment, with exactly these settings of devicestat."""
    given = {name: text_of(value) for name, value in settings.items()}
    note_settings(given)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEVICESTAT_")}
    return inherited | {f"DEVICESTAT_{name.upper()}": text for name, text in given.items()}


def text_of(value: object) -> str:
    """Return the text of a setting's value."""
    match value:
        case MqttAddress():
            return value.url
        case timedelta():
            hours = value / timedelta(hours=1)
            return f"{value.days}d" if hours % 24 == 0 else f"{hours:.0f}h" if hours % 1 == 0 else f"{value.seconds}s"
        case tuple() | frozenset():
            return ",".join(map(str, value))
        case _:
            return str(value)


def run(
    *arguments: object, typed: str = "", cwd: Path | None = None, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    result = subprocess.run(
        argv(*arguments),
        env=environment(**settings),
        input=typed,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        cwd=cwd,
        check=False,
    )
    shows_a_key = arguments[:2] in (("keys", "create"), ("keys", "rotate"), ("devices", "import"))
    (gather_shown if shows_a_key else gather)(f"devicestat {arguments}", result.stdout)
    return result


async def arun(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    """Call `run` in a thread."""
    return await asyncio.to_thread(run, *arguments, **settings)  # type: ignore[arg-type]


class Up:
    """A running `devicestat up`, and its output."""

    def __init__(self, directory: Path, *options: str, **settings: object) -> None:
        self.directory = directory
        self.http_port, self.mqtt_port = free_port(), free_port()
        self.lines: list[str] = []
        self._options = options
        self._settings = {"ingestor_metrics_port": free_port(), "worker_metrics_port": free_port(), **settings}

    @property
    def arguments(self) -> list[object]:
        ports = ("--http-port", self.http_port, "--mqtt-port", self.mqtt_port)
        return ["up", "--data-dir", self.directory, *ports, *self._options]

    @property
    def settings(self) -> dict[str, object]:
        return self._settings

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *argv(*self.arguments),
            env=environment(**self._settings),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._read(), name="read the output of up")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))
        gather("the output of `devicestat up`", "\n".join(self.lines))

    async def says(self, pattern: str, after: int = 0) -> str:
        """Wait for a line that matches the pattern; return it."""

        async def look() -> str | None:
            assert not self._reading.done() or any(re.search(pattern, line) for line in self.lines), self.lines
            return next((line for line in self.lines[after:] if re.search(pattern, line)), None)

        try:
            return await eventually(look, bool) or ""
        except AssertionError:
            raise AssertionError(f"no line matches {pattern!r}:\n" + "\n".join(self.lines)) from None

    async def ready(self) -> None:
        await self.says("Devicestat is ready")
        await self.says("^─+$")

    def children(self) -> dict[str, int]:
        """The running programs and their process ids, in the order of their start."""
        return {child["name"]: child["pid"] for child in json.loads((self.directory / "children.json").read_bytes())}

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(HANG_S):
            await self._reading
            return await self.process.wait()

    @property
    def api(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.http_port}", trust_env=False)


@asynccontextmanager
async def running_up(up: Up) -> AsyncIterator[Up]:
    """Run an `up` for the block, which begins when it is ready."""
    await up.start()
    try:
        await up.ready()
        yield up
    finally:
        if up.process.returncode is None:
            await up.stop()
