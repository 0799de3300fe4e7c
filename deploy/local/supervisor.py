"""Supervisor of programs: it logs and restarts each program that exits, and stops all in reverse order.

In three cases the supervisor fails instead, and so does its command:

- a program exits before it was ever ready: its setup is wrong, and its last lines have the reason;
- a program that was ready exits with one of its final exit codes;
- a program has written a line whose explanation is final.

A program that was killed by a signal is always restarted. A program that was ready once, was restarted, and is not
ready again is restarted after any exit code, because a server that it needs may be down.
"""

import asyncio
import contextlib
import math
import os
import signal
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Protocol, Self

from deploy.local.children import STOP_TIMEOUT_S, Program
from shared.backoff import backoff
from shared.errors import LocalError
from shared.serving.lifeline import Lifeline

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""Run time of a program after which the pause before its restart is reset."""
PROBE_EVERY_S = 0.1
EXPLAINED_EVERY_S = 60.0
"""Interval at which a repeated line is explained again."""
LINE_BYTES = 1024 * 1024

Say = Callable[[str, str], None]
"""Print a line: the program's name, and the line."""


class Children(Protocol):
    """Record of the running processes."""

    def add(self, program: Program, pid: int) -> None:
        """Add a process of the program."""

    def remove(self, pid: int) -> None:
        """Remove a process that has ended."""


class Supervisor:
    """Runs programs within its context; at the end it stops them in reverse order, or all at once."""

    def __init__(
        self,
        children: Children,
        say: Say,
        *,
        stops_at_once: bool = False,
        first_pause_s: float = FIRST_PAUSE_S,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self.children = children
        self.say = say
        self.first_pause_s = first_pause_s
        self.stop_timeout_s = stop_timeout_s
        self.lifeline = Lifeline()
        self._stops_at_once = stops_at_once
        self._stages: list[list[_Supervised]] = []

    async def start(self, *programs: Program) -> None:
        """Start the programs concurrently; return when all are ready. Raises LocalError if one fails."""
        stage = [_Supervised(program, self) for program in programs]
        self._stages.append(stage)
        for supervised in stage:
            supervised.start()
        await asyncio.gather(*(supervised.until_ready() for supervised in stage))

    async def watch(self) -> None:
        """Wait until a program ends for good. Raises its LocalError."""
        await asyncio.gather(*(supervised.ended() for stage in self._stages for supervised in stage))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stages = [list(chain(*self._stages))] if self._stops_at_once else reversed(self._stages)
        for stage in stages:
            await asyncio.gather(*(supervised.stop() for supervised in stage))
        self.lifeline.close()


class _Supervised:
    """One program, with the task that keeps it running."""

    def __init__(self, program: Program, supervisor: Supervisor) -> None:
        self._program = program
        self._supervisor = supervisor
        self._say = partial(supervisor.say, program.name)
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._was_ready = asyncio.Event()  # in this run, or in an earlier one
        self._is_ready = False
        self._why_final: str | None = None  # the final explanation
        self._explained_at: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_running(), name=f"keep {self._program.name} running")

    async def ended(self) -> None:
        """Wait for the end of the task. Raises its error."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def until_ready(self) -> None:
        """Wait until the program is ready. Raises LocalError if it ends, or takes too long."""
        assert self._task is not None
        ready = asyncio.create_task(self._was_ready.wait(), name=f"{self._program.name} is ready")
        limit = self._program.start_timeout_s
        try:
            await asyncio.wait({ready, self._task}, timeout=limit, return_when="FIRST_COMPLETED")
        finally:
            ready.cancel()
        if self._task.done():
            self._task.result()
        if not self._was_ready.is_set() and limit is not None:
            raise LocalError(f"{self._program.name} was not ready after {limit:g} s")

    async def stop(self) -> None:
        """Send the program its stop signal; if it does not end in time, kill it."""
        assert self._task is not None
        self._stopping.set()
        self._ask_to_end()
        done, _ = await asyncio.wait({self._task}, timeout=self._supervisor.stop_timeout_s)
        if not done and self._process is not None:
            self._say(f"did not stop within {self._supervisor.stop_timeout_s:g} s: killed")
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await asyncio.wait({self._task})

    async def _keep_running(self) -> None:
        pauses = backoff(self._supervisor.first_pause_s, LONGEST_PAUSE_S)
        while True:
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            how = _how_it_ended(code) if self._is_ready else f"{_how_it_ended(code)} before it was ready"
            if self._why_final is not None:
                raise LocalError(self._why_final)
            if self._is_final(code):
                raise LocalError(f"{self._program.name} {how}: its last lines say why")
            if time.monotonic() - began > STEADY_S:
                pauses = backoff(self._supervisor.first_pause_s, LONGEST_PAUSE_S)
            pause = next(pauses)
            self._say(f"{how}: restarting in {pause:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return

    def _is_final(self, code: int) -> bool:
        if code < 0:  # a signal
            return False
        return not self._was_ready.is_set() or (self._is_ready and code in self._program.final_exit_codes)

    async def _run_once(self) -> int:
        program = self._program
        self._is_ready = False
        self._why_final = None
        self._process = await asyncio.create_subprocess_exec(
            *program.argv, stdout=PIPE, stderr=STDOUT, limit=LINE_BYTES, **self._popen_options()
        )
        self._supervisor.children.add(program, self._process.pid)
        if self._stopping.is_set():  # meanwhile
            self._ask_to_end()
        probing = asyncio.create_task(self._probe(), name=f"probe {program.name}")
        try:
            await self._show_lines(self._process)
            code = await self._process.wait()
        finally:
            probing.cancel()
            self._supervisor.children.remove(self._process.pid)
        return code

    def _popen_options(self) -> dict[str, Any]:
        options = self._program.popen_options()
        if self._program.stops_with_parent:
            inherited = os.environ if self._program.environment is None else self._program.environment
            options["env"] = {**inherited, **self._supervisor.lifeline.environment()}
            options["pass_fds"] = (*self._program.pass_fds, self._supervisor.lifeline.reading)
        return options

    def _ask_to_end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._program.stop_signal)

    async def _probe(self) -> None:
        again = self._was_ready.is_set()
        while not await asyncio.to_thread(self._program.ready):  # noqa: ASYNC110  # another process has no event
            await asyncio.sleep(PROBE_EVERY_S)
        self._is_ready = True
        self._was_ready.set()
        if again:
            self._say("is ready again")

    async def _show_lines(self, process: Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than LINE_BYTES: the reader has discarded it
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip("\n")
            self._say(text)
            self._explain(text)

    def _explain(self, line: str) -> None:
        explanation = self._program.explain(line)
        if explanation is None:
            return
        if explanation.final:
            self._why_final = explanation.text
            return
        now = time.monotonic()
        if now - self._explained_at.get(explanation.text, -math.inf) >= EXPLAINED_EVERY_S:
            self._explained_at[explanation.text] = now
            self._say(explanation.text)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
