"""What the reports of the processes show to be wrong."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import chain

import msgspec

from shared.serving.telemetry import STARTING
from shared.status.findings import Finding, Severity
from shared.status.process import Kind, State
from shared.status.table import Process, running
from shared.status.words import ago, counted, lasting, printable

LAG_S = 5.0
"""Age of an uncommitted reading that is a warning."""
STARTS_S = 30.0
"""Time that the start of a process may take."""
WAITING = timedelta(minutes=5)
"""Time that a request may wait while a worker runs, before it is a warning."""
COMMANDS = {Kind.INGESTOR: "devicestat ingest", Kind.API: "devicestat serve", Kind.WORKER: "devicestat work"}


class Queue(msgspec.Struct, frozen=True):
    """The queued and the running analyses. `oldest`: how long the oldest one waits that may begin; None without one."""

    queued: int = 0
    running: int = 0
    oldest: timedelta | None = None


def judge(processes: Sequence[Process], queue: Queue, *, with_hosts: bool = True) -> list[Finding]:
    """Return what is wrong with the processes. `with_hosts`: name their hosts and process ids."""

    def called(process: Process) -> str:
        return _called(process, with_hosts=with_hosts)

    return [
        *_absent(processes, called),
        *chain.from_iterable(_one(process, called(process)) for process in processes),
        *_without_worker(processes, queue),
        *_same_client_id(processes),
        *_versions(processes),
    ]


def _called(process: Process, *, with_hosts: bool) -> str:
    name = f" {process.name}" if process.name else ""
    article = "the " if name else "a "
    place = f" on {process.host} (pid {process.pid})" if with_hosts else ""
    return printable(f"{article}{process.kind}{name}{place}")


def _absent(processes: Sequence[Process], called: Callable[[Process], str]) -> Iterable[Finding]:
    """Report processes that are gone: wrong if no other of the kind runs."""
    for process in processes:
        if process.state is State.GONE:
            severity = Severity.WARNING if running(processes, process.kind) else Severity.WRONG
            text = (
                f"{called(process)} reported last {ago(timedelta(seconds=process.age_s))}: it was killed, or its host "
                "or its connection to the database is lost. Its log or its service manager says more; start "
                f"`{COMMANDS[process.kind]}` again"
            )
            yield Finding(severity, process.kind.value, text)
        elif process.state is State.LATE:
            text = f"{called(process)} has not reported for {lasting(timedelta(seconds=process.age_s))}"
            yield Finding(Severity.WARNING, process.kind.value, f"{text}: it should every 5 seconds")


def _one(process: Process, called: str) -> Iterable[Finding]:
    if process.state is not State.RUNNING or process.document is None:
        return
    for part in process.document.parts:
        seconds = part.for_s + process.age_s
        if part.fault is not None and (part.fault != STARTING or seconds > STARTS_S):
            since = lasting(timedelta(seconds=seconds))
            text = f"{called} has not been ready for {since}: {part.name}: {part.fault}"
            yield Finding(Severity.WRONG, process.kind.value, printable(text))
    figures = process.document.ingestor
    if figures is not None and figures.lag_s > LAG_S:
        text = f"{called} has not committed a reading that it received {figures.lag_s:.0f} s ago"
        in_flight = counted(figures.in_flight, "reading")
        text = f"{text} ({in_flight} in flight): is the database slow or unreachable?"
        yield Finding(Severity.WARNING, "lag", text)


def _without_worker(processes: Sequence[Process], queue: Queue) -> Iterable[Finding]:
    if not queue.queued:
        return
    waits = f"{counted(queue.queued, 'request')} in the queue of analyses"
    if queue.oldest is not None:
        waits = f"{waits}, the oldest waiting for {lasting(queue.oldest)}"
    if not running(processes, Kind.WORKER):
        yield Finding(Severity.WRONG, "queue", f"{waits}, and no worker runs: start `{COMMANDS[Kind.WORKER]}`")
    elif queue.oldest is not None and queue.oldest > WAITING:
        advice = "are the analyses long, or are WORKER_CONCURRENCY or the workers too few?"
        yield Finding(Severity.WARNING, "queue", f"{waits}: {advice}")


def _same_client_id(processes: Sequence[Process]) -> Iterable[Finding]:
    names = [process.name for process in running(processes, Kind.INGESTOR)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        text = f"{names.count(name)} run with the client id {printable(name)}: give each its own"
        yield Finding(Severity.WARNING, "ingestors", text)


def _versions(processes: Sequence[Process]) -> Iterable[Finding]:
    live = [process for process in processes if process.state is State.RUNNING]
    versions = {
        process.version: sorted({one.kind for one in live if one.version == process.version}) for process in live
    }
    if len(versions) > 1:
        shown = ", ".join(f"{number} ({', '.join(kinds)})" for number, kinds in sorted(versions.items()))
        text = f"processes of different versions run: {shown}. Restart those of the older version"
        yield Finding(Severity.WARNING, "versions", printable(text))


def absent_kinds(processes: Sequence[Process], queue: Queue) -> Iterable[Finding]:
    """Report that no ingestor or no worker has reported for fifteen minutes."""
    kinds = {process.kind for process in processes}
    if Kind.INGESTOR not in kinds:
        text = "no ingestor runs, and readings wait at the broker: start `devicestat ingest`"
        yield Finding(Severity.WARNING, "ingestor", text)
    if Kind.WORKER not in kinds and not queue.queued:
        text = "no worker runs: schedules, retention and the sealing of readings wait. Start `devicestat work`"
        yield Finding(Severity.WARNING, "worker", text)
