"""The supervisor restarts and names programs that end, and stops them in reverse order."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.children import Explanation, Program
from deploy.local.leftovers import ChildrenFile, locked
from deploy.local.supervisor import Supervisor
from shared.errors import LocalError
from tests.waiting import HANG_S

# Prints its name, then is ready, as its file exists, and prints when it gets the stop signal.
SCRIPT = """
import pathlib, signal, sys
name, ready = sys.argv[1], pathlib.Path(sys.argv[2])
def stop(*_):
    print(name, "stops", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print(name, "runs", flush=True)
ready.touch()  # a signal during the line above would print into it
while True:
    signal.pause()
"""

KILLED_ONCE = """
import os, pathlib, signal, sys
before = pathlib.Path(sys.argv[2] + ", once killed")
if not before.exists():
    before.touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
FAILS_WHILE_AWAY = """
import pathlib, sys
if (pathlib.Path(sys.argv[2]).parent / "away").exists():
    sys.exit(1)
"""
FAILS_AT_SIGUSR1 = """
import signal, sys
from tests.waiting import HANG_S
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(1))
"""


class Lines:
    """Output lines, with a way to wait for them."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def say(self, name: str, line: str) -> None:
        self.all.append((name, line))
        self._changed.set()

    async def until(self, name: str, part: str, times: int = 1) -> None:
        async with asyncio.timeout(HANG_S):
            while sum(1 for who, line in self.all if who == name and part in line) < times:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def children(tmp_path: Path) -> ChildrenFile:
    return ChildrenFile(tmp_path)


def program(directory: Path, name: str, script: str = SCRIPT, **others: object) -> Program:
    ready = directory / f"{name} is ready"
    argv = (sys.executable, "-c", script, name, str(ready))
    return Program(name=name, argv=argv, ready=ready.exists, **others)  # type: ignore[arg-type]


def pids(directory: Path) -> list[int]:
    return [child.pid for child in ChildrenFile(directory)._read()]


async def test_programs_stop_in_reverse_order(tmp_path: Path, children: ChildrenFile) -> None:
    lines = Lines()
    async with Supervisor(children, lines.say) as supervisor:
        for name in ("first", "second", "third"):
            await supervisor.start(program(tmp_path, name))
        running = pids(tmp_path)
    said = [line for _, line in lines.all]
    assert said[-3:] == ["third stops", "second stops", "first stops"]
    assert len(running) == 3
    assert not any(psutil.pid_exists(pid) for pid in running)
    assert pids(tmp_path) == []


async def test_one_that_dies_is_named_and_started_again(tmp_path: Path, children: ChildrenFile) -> None:
    lines = Lines()
    async with Supervisor(children, lines.say, first_pause_s=0.05) as supervisor:
        await supervisor.start(program(tmp_path, "one"), program(tmp_path, "other"))
        await lines.until("one", "runs")
        in_order = [child.name for child in children._read()]
        for times in range(1, 4):
            victim = next(child for child in children._read() if child.name == "one")
            os.kill(victim.pid, signal.SIGKILL)
            await lines.until("one", "was ended by SIGKILL: restarting in", times)
            await lines.until("one", "one runs", times + 1)
            await lines.until("one", "is ready again", times)
        assert [child.name for child in children._read()] == in_order
    assert not any("ended by" in line for name, line in lines.all if name == "other")


async def test_one_that_a_signal_ends_before_it_is_ready_is_started_again(
    tmp_path: Path, children: ChildrenFile
) -> None:
    lines = Lines()
    async with Supervisor(children, lines.say, first_pause_s=0.05) as supervisor:
        await supervisor.start(program(tmp_path, "unlucky", KILLED_ONCE + SCRIPT))
        await lines.until("unlucky", "was ended by SIGKILL before it was ready: restarting in")
        await lines.until("unlucky", "unlucky runs")
    assert not any("again" in line for _, line in lines.all if "started again" not in line)


async def test_one_that_was_ready_once_is_started_again_until_what_it_needs_is_back(
    tmp_path: Path, children: ChildrenFile
) -> None:
    lines, away = Lines(), tmp_path / "away"
    needy = program(tmp_path, "needy", FAILS_WHILE_AWAY + SCRIPT, final_exit_codes=frozenset({1}))
    async with Supervisor(children, lines.say, first_pause_s=0.05) as supervisor:
        await supervisor.start(needy)
        (tmp_path / "needy is ready").unlink()
        away.touch()
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        await lines.until("needy", "ended with exit code 1 before it was ready: restarting in", 2)
        away.unlink()
        await lines.until("needy", "is ready again")


async def test_one_that_ends_with_a_final_exit_code_after_it_was_ready_fails_the_watch(
    tmp_path: Path, children: ChildrenFile
) -> None:
    final = program(tmp_path, "final", FAILS_AT_SIGUSR1 + SCRIPT, final_exit_codes=frozenset({1}))
    async with Supervisor(children, Lines().say) as supervisor:
        await supervisor.start(final)
        os.kill(pids(tmp_path)[0], signal.SIGUSR1)
        with pytest.raises(LocalError, match="final ended with exit code 1: its last lines say why"):
            await supervisor.watch()


async def test_all_can_be_stopped_at_once(tmp_path: Path, children: ChildrenFile) -> None:
    """Each stops only after all have got the signal."""
    wait = """
    ready.with_suffix(".asked").touch()
    while len(list(ready.parent.glob("*.asked"))) < 3:
        time.sleep(0.01)
    """
    patient = SCRIPT.replace("pathlib,", "pathlib, time,").replace(
        '    print(name, "stops"', wait + 'print(name, "stops"'
    )
    lines = Lines()
    async with Supervisor(children, lines.say, stops_at_once=True, stop_timeout_s=HANG_S) as supervisor:
        await supervisor.start(program(tmp_path, "first", patient))
        await supervisor.start(program(tmp_path, "second", patient), program(tmp_path, "third", patient))
    assert sorted(line for _, line in lines.all[-3:]) == ["first stops", "second stops", "third stops"]


async def test_one_inherits_the_file_descriptors_that_it_is_given(tmp_path: Path, children: ChildrenFile) -> None:
    lines = Lines()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        inherit = f"import socket; print(socket.socket(fileno={number}).getsockname()[1], flush=True)"
        heir = program(tmp_path, "heir", inherit + SCRIPT, pass_fds=(number,))
        async with Supervisor(children, lines.say) as supervisor:
            await supervisor.start(heir)
            await lines.until("heir", str(listener.getsockname()[1]))


async def test_one_that_ends_before_it_is_ready_fails_the_start(tmp_path: Path, children: ChildrenFile) -> None:
    lines = Lines()
    broken = program(tmp_path, "broken", "print('no luck'); raise SystemExit(3)")
    async with Supervisor(children, lines.say) as supervisor:
        await supervisor.start(program(tmp_path, "sound"))
        with pytest.raises(LocalError, match="broken ended with exit code 3 before it was ready"):
            await supervisor.start(broken)
    assert ("broken", "no luck") in lines.all
    assert lines.all[-1] == ("sound", "sound stops")


async def test_one_that_is_never_ready_fails_the_start(tmp_path: Path, children: ChildrenFile) -> None:
    slow = program(tmp_path, "slow", "import time; time.sleep(60)", start_timeout_s=0.3)
    with pytest.raises(LocalError, match=r"slow was not ready after 0\.3 s"):
        async with Supervisor(children, Lines().say) as supervisor:
            await supervisor.start(slow)
    assert pids(tmp_path) == []


async def test_one_that_does_not_heed_the_signal_is_killed(tmp_path: Path, children: ChildrenFile) -> None:
    lines = Lines()
    deaf = SCRIPT.replace("sys.exit(0)", "pass")
    async with Supervisor(children, lines.say, stop_timeout_s=0.3) as supervisor:
        await supervisor.start(program(tmp_path, "deaf", deaf))
        running = pids(tmp_path)
    assert ("deaf", "did not stop within 0.3 s: killed") in lines.all
    assert not any(psutil.pid_exists(pid) for pid in running)


async def test_a_line_without_end_does_not_stop_the_others(tmp_path: Path, children: ChildrenFile) -> None:
    lines = Lines()
    endless = SCRIPT.replace("ready.touch()", "print('x' * 3_000_000)\nprint('after')\nready.touch()")
    async with Supervisor(children, lines.say) as supervisor:
        await supervisor.start(program(tmp_path, "talker", endless))
        await lines.until("talker", "after")


async def test_a_line_is_explained_once_while_it_is_repeated(tmp_path: Path, children: ChildrenFile) -> None:
    def explain(line: str) -> Explanation | None:
        return Explanation("make room") if "disk" in line else None

    lines = Lines()
    full = SCRIPT.replace("ready.touch()", "print('the disk is full\\n' * 3, 'after', flush=True)\nready.touch()")
    async with Supervisor(children, lines.say) as supervisor:
        await supervisor.start(program(tmp_path, "full", full, explain=explain))
        await lines.until("full", "after")
    assert [line for _, line in lines.all].count("make room") == 1


async def test_a_line_with_a_final_explanation_ends_the_restarts(tmp_path: Path, children: ChildrenFile) -> None:
    """Also for a program that was ready once, which would be restarted without end."""
    damaged = """
import pathlib, sys
if (pathlib.Path(sys.argv[2]).parent / "damaged").exists():
    print("cannot read it", flush=True)
    sys.exit(1)
"""

    def explain(line: str) -> Explanation | None:
        return Explanation("restore the file", final=True) if "cannot read" in line else None

    one = program(tmp_path, "one", damaged + SCRIPT, explain=explain)
    async with Supervisor(children, Lines().say) as supervisor:
        await supervisor.start(one)
        (tmp_path / "one is ready").unlink()
        (tmp_path / "damaged").touch()
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        async with asyncio.timeout(20):
            with pytest.raises(LocalError, match=r"^restore the file$"):
                await supervisor.watch()


@pytest.fixture
def left_running(tmp_path: Path) -> Iterator[tuple[Program, "subprocess.Popen[bytes]"]]:
    left = program(tmp_path, "left")
    with subprocess.Popen(left.argv, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + HANG_S
        while not left.ready():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield left, process
        process.kill()


def test_what_a_killed_up_left_running_is_ended(
    tmp_path: Path, left_running: tuple[Program, "subprocess.Popen[bytes]"]
) -> None:
    left, process = left_running
    ChildrenFile(tmp_path).add(left, process.pid)
    said: list[str] = []
    ChildrenFile(tmp_path).end_leftovers(said.append)
    assert process.wait(10) == 0
    assert said == [f"left (process {process.pid}) was left running by an `up` that was killed: stopped"]
    assert pids(tmp_path) == []


def test_another_process_with_the_same_number_is_left_alone(
    tmp_path: Path, left_running: tuple[Program, "subprocess.Popen[bytes]"]
) -> None:
    left, process = left_running
    ChildrenFile(tmp_path).add(left, process.pid)
    file = tmp_path / "children.json"
    created = psutil.Process(process.pid).create_time()
    file.write_text(file.read_text().replace(str(created), str(created - 100)))
    said: list[str] = []
    ChildrenFile(tmp_path).end_leftovers(said.append)
    assert said == []
    assert process.poll() is None


def test_a_damaged_file_of_children_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "children.json").write_text('[{"name": "cut sh')
    ChildrenFile(tmp_path).end_leftovers(lambda line: pytest.fail(line))
    assert pids(tmp_path) == []


def test_a_data_directory_has_one_up_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(LocalError, match=rf"is running \(process {os.getpid()}\)")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


SUPERVISES = """
import asyncio, sys
from deploy.local.children import Program
from deploy.local.supervisor import Supervisor

class Nobody:
    def add(self, program, pid): print(pid, flush=True)
    def remove(self, pid): pass

SERVICE = '''
import asyncio, pathlib, sys
from shared.serving.service import run
async def main(stop):
    await stop.wait()
    pathlib.Path(sys.argv[1]).touch()
run(main)
'''

async def main():
    async with Supervisor(Nobody(), print) as supervisor:
        argv = (sys.executable, "-c", SERVICE, sys.argv[1])
        await supervisor.start(Program(name="service", argv=argv, ready=lambda: True, stops_with_parent=True))
        await supervisor.watch()

asyncio.run(main())
"""


def test_a_service_stops_in_order_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    with subprocess.Popen((sys.executable, "-c", SUPERVISES, stopped), stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        service = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
    deadline = time.monotonic() + HANG_S
    while service.is_running() and service.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert stopped.exists()
