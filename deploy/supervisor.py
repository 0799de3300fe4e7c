"""Keeps programs running: each that ends by itself is started again, and named; all stop in reverse order.

A program that ends before it was ever ready is another matter: it cannot work as it is set up, and has just
said why. Then the supervisor fails, and with it the command that runs it.
"""

import asyncio
import contextlib
import signal
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from deploy.children import STOP_TIMEOUT_S, Program
from shared.backoff import backoff
from shared.errors import LocalError

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""After a program has run for so long, the pauses before it is started again begin anew."""
PROBE_EVERY_S = 0.1
LINE_BYTES = 1024 * 1024

Say = Callable[[str, str], None]
"""Shows a line: whose it is, and the line."""


class Children(Protocol):
    """Who is told of the processes that run."""

    def add(self, program: Program, pid: int) -> None:
        """The program runs."""

    def remove(self, pid: int) -> None:
        """It has ended."""


class Supervisor:
    """As a context: what was started in it is stopped at its end, the last first."""

    def __init__(self, children: Children, say: Say) -> None:
        self._children = children
        self._say = say
        self._stages: list[list[_Supervised]] = []

    async def start(self, *programs: Program) -> None:
        """Starts the programs at once, and returns when all are ready. Raises LocalError if one can't be."""
        stage = [_Supervised(program, self._children, self._say) for program in programs]
        self._stages.append(stage)
        for supervised in stage:
            supervised.start()
        await asyncio.gather(*(supervised.until_ready() for supervised in stage))

    async def watch(self) -> None:
        """Runs for as long as everything does; raises what keeps a program from being kept."""
        await asyncio.gather(*(supervised.ended() for stage in self._stages for supervised in stage))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage in reversed(self._stages):
            await asyncio.gather(*(supervised.stop() for supervised in stage))


class _Supervised:
    """One program, and the task that keeps it running."""

    def __init__(self, program: Program, children: Children, say: Say) -> None:
        self._program = program
        self._children = children
        self._say = say
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_running(), name=f"keep {self._program.name} running")

    async def ended(self) -> None:
        """Raises what ended the task."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def until_ready(self) -> None:
        """Returns when the program is ready; raises LocalError when it ended, or took too long."""
        assert self._task is not None
        ready = asyncio.create_task(self._ready.wait(), name=f"{self._program.name} is ready")
        limit = self._program.start_timeout_s
        try:
            await asyncio.wait({ready, self._task}, timeout=limit, return_when="FIRST_COMPLETED")
        finally:
            ready.cancel()
        if self._task.done():
            self._task.result()
        if not self._ready.is_set():
            raise LocalError(f"{self._program.name} was not ready after {limit:g} s")

    async def stop(self) -> None:
        """Asks the program to end, and ends it by force when it doesn't."""
        assert self._task is not None
        self._stopping.set()
        self._ask_to_end()
        done, _ = await asyncio.wait({self._task}, timeout=STOP_TIMEOUT_S)
        if not done and self._process is not None:
            self._say(self._program.name, f"does not stop within {STOP_TIMEOUT_S:g} s: killed")
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await asyncio.wait({self._task})

    async def _keep_running(self) -> None:
        pauses = backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while True:
            began = time.monotonic()
            code = await self._run_once()
            how = _how_it_ended(code)
            if self._stopping.is_set():
                return
            if not self._ready.is_set():
                raise LocalError(f"{self._program.name} {how} before it was ready: its last lines say why")
            if code in self._program.final_exit_codes:
                raise LocalError(f"{self._program.name} {how}: its last lines say why")
            if time.monotonic() - began > STEADY_S:
                pauses = backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
            pause = next(pauses)
            self._say(self._program.name, f"{how}: it is started again in {pause:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return

    async def _run_once(self) -> int:
        program = self._program
        self._process = await asyncio.create_subprocess_exec(
            *program.argv, stdout=PIPE, stderr=STDOUT, limit=LINE_BYTES, **program.popen_options()
        )
        self._children.add(program, self._process.pid)
        if self._stopping.is_set():  # while it was being started
            self._ask_to_end()
        probing = asyncio.create_task(self._probe(), name=f"probe {program.name}")
        try:
            await self._show_lines(self._process)
            code = await self._process.wait()
        finally:
            probing.cancel()
            self._children.remove(self._process.pid)
        return code

    def _ask_to_end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._program.stop_signal)

    async def _probe(self) -> None:
        again = self._ready.is_set()
        while not await asyncio.to_thread(self._program.ready):  # noqa: ASYNC110  # another process has no event
            await asyncio.sleep(PROBE_EVERY_S)
        self._ready.set()
        if again:
            self._say(self._program.name, "is ready again")

    async def _show_lines(self, process: Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than LINE_BYTES; the reader has thrown that much away
                continue
            if not line:
                return
            self._say(self._program.name, line.decode(errors="replace").rstrip("\n"))


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
