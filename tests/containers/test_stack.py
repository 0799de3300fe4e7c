"""deploy/compose.yaml on a real engine, as in docs/deployment.md and docs/backup.md: `make containers`.

The test is a separate project with its own ports on loopback, and deletes its volumes at the end. If images cannot be
pulled, it uses local images with their names.
"""

import asyncio
import json
import os
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from deploy.containers.authority import PASSWORDS
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.containers
ROOT = Path(__file__).parents[2]
SERVERS = {"api", "caddy", "ingestor", "mosquitto", "postgres", "worker"}
RATE = 200
WITHIN_S = 120.0
_KILL = """
import os, pathlib
for process in pathlib.Path("/proc").glob("[0-9]*"):
    words = (process / "cmdline").read_bytes().split(b"\\0")
    if b"ingest" in words and int(process.name) not in (1, os.getpid()) and {condition}:
        print(process.name, flush=True)
        os.kill(int(process.name), 9)
"""
ONE_OF_TWO = 'words[words.index(b"--process") + 1 :][:1] == [b"2"] if b"--process" in words else False'
ALL_OF_THEM = 'b"--process" not in words'


class Stack:
    """The containers, with commands of a user."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.https, self.mqtts = free_port(), free_port()
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": f"devicestat-test-{os.getpid()}",
            "HTTPS_PORT": f"127.0.0.1:{self.https}",
            "MQTTS_PORT": f"127.0.0.1:{self.mqtts}",
            "PROXY_NET": "10.213.213.16/28",
            "NAMES": "localhost,127.0.0.1",
        }

    def shell(self, commands: str) -> str:
        """Run commands of the documentation; return their output."""
        function = f'compose() {{ docker compose -f {ROOT}/deploy/compose.yaml "$@"; }}\n'
        done = subprocess.run(
            ["bash", "-euc", function + commands],
            cwd=self.directory, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """Return the last log lines of each container."""
        command = ("docker", "compose", "-f", f"{ROOT}/deploy/compose.yaml", "logs", "--no-color", "--tail", "5")
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False).stdout

    def count(self) -> tuple[int, int]:
        """Return the number of readings, and of distinct ones."""
        query = "SELECT count(*), count(DISTINCT (device_id, x, y)) FROM readings"
        row = self.shell(f"compose exec -T postgres psql -U devicestat -d devicestat -AtF, -c '{query}'")
        rows, different = row.strip().split(",")
        return int(rows), int(different)

    async def until_stored(self, count: int) -> None:
        """Wait until `count` readings are stored, each once."""

        async def look() -> tuple[int, int]:
            await asyncio.sleep(1)
            return self.count()

        await eventually(look, lambda seen: seen[1] >= count, WITHIN_S)
        assert self.count() == (count, count)

    def trust(self) -> ssl.SSLContext:
        """Return a context that trusts the authority of the first start."""
        self.shell("compose exec -T mosquitto cat /run/public/ca.pem > ca.pem")
        return ssl.create_default_context(cafile=str(self.directory / "ca.pem"))

    def api(self, key: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(
            base_url=f"https://localhost:{self.https}", headers=headers, verify=self.trust(), timeout=30
        )

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return the output of `ps` by service."""
        listed = [json.loads(line) for line in self.shell("compose ps --all --format json").splitlines() if line]
        return {one["Service"]: one for part in listed for one in (part if isinstance(part, list) else [part])}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("stack"))
    try:
        made.shell("compose up -d --wait --build")
        yield made
    finally:
        made.shell("compose down --volumes --remove-orphans")


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    shown = stack.shell("compose run --rm -T devicestat keys create --role admin --name first")
    found = re.search(r"dsk_\w{8}_[\w-]{43}", shown)
    assert found, shown
    return found[0]


class Device:
    """A device that publishes numbered readings."""

    def __init__(self, stack: Stack, number: int, token: str) -> None:
        self.token = token
        self.published = 0
        self._topic = f"devices/{number}/stats"
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, f"device-{number}", protocol=mqtt.MQTTv5)
        self._client.tls_set_context(stack.trust())
        self._client.username_pw_set(f"device-{number}", token)
        self._answered = threading.Event()
        self._client.on_connect = lambda *said: self._answered.set()
        self._client.connect("localhost", stack.mqtts)
        self._client.loop_start()

    async def publish(self, count: int) -> None:
        assert await asyncio.to_thread(self._answered.wait, WITHIN_S)  # paho fails a publish before the CONNACK
        sent = []
        for _ in range(count):
            x, y = self.published % 1000, self.published // 1000
            sent.append(self._client.publish(self._topic, json.dumps({"x": x, "y": y, "z": 7}), qos=1))
            self.published += 1
            await asyncio.sleep(1 / RATE)
        for message in sent:
            await asyncio.to_thread(message.wait_for_publish, 30)
        assert all(message.is_published() for message in sent)

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(scope="module")
def device(stack: Stack, key: str) -> Iterator[Device]:
    with stack.api(key) as api:
        made = api.post("/devices", json={"name": "press 1"})
    assert made.status_code == 201, made.text
    device = Device(stack, made.json()["id"], made.json()["token"])
    yield device
    device.end()


def blocks(heading: str) -> str:
    """Return the commands below the heading in docs/backup.md."""
    section = (ROOT / "docs" / "backup.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```\n(.*?)```", section, re.DOTALL))


async def test_all_are_well_and_closed(stack: Stack, key: str) -> None:
    containers = stack.containers()
    assert {name for name, one in containers.items() if one["Health"] == "healthy"} == SERVERS
    assert {one["ExitCode"] for name, one in containers.items() if name not in SERVERS} == {0}
    with stack.api(None) as anybody, stack.api(key) as administrator:
        assert anybody.get("/devices").status_code == 401
        assert anybody.get("/health/live").status_code == 200
        assert administrator.get("/health/ready").status_code == 200
    assert await refused_by_the_broker(stack) == ReasonCode(PacketTypes.CONNACK, "Not authorized")


async def test_the_doctor_finds_the_ingestor_and_the_brokers_disk(stack: Stack, key: str) -> None:
    shown = stack.shell("compose run --rm -T devicestat doctor")
    assert re.search(r"^ok +ingestor +ready at http://ingestor:9101$", shown, re.MULTILINE), shown
    for what in ("lag", "broker disk", "broker saved", "access"):
        assert re.search(rf"^ok +{what} ", shown, re.MULTILINE), shown
    assert not re.search(r"^(warning|wrong) ", shown, re.MULTILINE), shown


async def refused_by_the_broker(stack: Stack) -> ReasonCode:
    """Return the response to a request without credentials."""
    answer: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_connect = lambda *said: answer.get_loop().call_soon_threadsafe(answer.set_result, said[3])
    client.tls_set_context(stack.trust())
    client.connect("localhost", stack.mqtts)
    client.loop_start()
    async with asyncio.timeout(WITHIN_S):
        code = await answer
    client.disconnect()
    client.loop_stop()
    return code


async def test_two_ingestors_are_killed_and_nothing_is_lost(stack: Stack, device: Device) -> None:
    await device.publish(1)
    await stack.until_stored(1)
    stack.environment["INGESTORS"] = "2"
    stack.shell("compose up -d --wait")
    for condition in (ONE_OF_TWO, ONE_OF_TWO, ALL_OF_THEM):
        stream = asyncio.create_task(device.publish(1000))
        await asyncio.sleep(2)
        script = _KILL.format(condition=condition)
        # The container, and with it this script, may end with the process.
        killed = await asyncio.to_thread(
            stack.shell, f"compose exec -T ingestor python -c '{script}' || test $? -eq 137"
        )
        assert len(killed.split()) == 1, killed
        await stream
    await stack.until_stored(device.published)
    stack.environment["INGESTORS"] = "1"
    stream = asyncio.create_task(device.publish(1000))
    await asyncio.to_thread(stack.shell, "compose up -d --wait")
    await stream
    await stack.until_stored(device.published)


async def test_no_secret_is_seen_from_outside(stack: Stack, key: str, device: Device) -> None:
    kept = stack.shell("compose run --rm -T --no-deps --entrypoint sh setup -c 'cd /secrets/authority; tail -n +1 *'")
    made = re.findall(r"\b[0-9a-f]{64}\b", kept) + re.findall(r"-----BEGIN PRIVATE KEY-----\n(.+)", kept)
    assert len(made) == len(PASSWORDS) + 3  # and the keys of the authority, the broker and the public name
    shown = stack.shell("compose logs --no-color; compose top; compose config; docker inspect $(compose ps -aq)")
    assert len(shown) > 10_000
    assert [secret for secret in [*made, key, device.token] if secret in shown] == []


async def test_what_is_backed_up_is_restored(stack: Stack, device: Device, key: str) -> None:
    """Includes queued messages, which are published while the ingestor is stopped."""
    commands = blocks("Backup")
    stopped, rest = commands.split("\n", 1)
    assert stopped == "compose stop ingestor"
    stack.shell(stopped)
    await device.publish(500)
    stack.shell(rest)
    await stack.until_stored(device.published)
    device.end()
    stack.shell("compose down --volumes")
    stack.shell(blocks("Restore"))
    await stack.until_stored(device.published)
    with stack.api(key) as api:
        assert api.get("/devices").json()[0]["name"] == "press 1"
    again = Device(stack, 1, device.token)
    again.published = device.published
    await again.publish(10)
    await stack.until_stored(again.published)
    again.end()
