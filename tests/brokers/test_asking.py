"""A broker that authenticates and authorizes with the API (docs/broker-authentication.md)."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from shared.settings import Settings
from tests import services
from tests.broker_questions import SECRET
from tests.brokers.client import RawClient, connected
from tests.brokers.lab import TRY_AGAIN_S, Entry, Lab
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.brokers

REFUSED = 0x80
"""First reason code of a failure."""
READING = b'{"x": 1, "y": 2, "z": 3}'


class AskingLab(Lab):
    """Return a broker that uses the API on the port."""

    def __init__(self, entry: Entry, directory: Path, api_port: int) -> None:
        super().__init__(msgspec.structs.replace(entry, start=entry.asks), directory)
        self._places |= {"api": f"http://127.0.0.1:{api_port}", "secret": SECRET}

    async def _takes_a_client(self) -> None:
        with pytest.raises(AssertionError, match="refuses"):
            async with connected(self.url, "devicestat-test-stranger"):
                pass


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """An API for authentication of brokers."""
    settings = Settings(database_url=database_url, http_port=free_port(), mqtt_auth_secret=SECRET)
    async with services.api(settings) as client:
        yield client


@pytest.fixture
async def asker(asking: Entry, api: httpx.AsyncClient, tmp_path: Path) -> AsyncIterator[Lab]:
    """A new instance of the broker."""
    directory = tmp_path / "b"
    directory.mkdir()
    assert api.base_url.port is not None
    lab = AskingLab(asking, directory, api.base_url.port)
    try:
        await lab.start()
        yield lab
    finally:
        lab.kill()


async def registered(api: httpx.AsyncClient) -> dict[str, Any]:
    """Register a device."""
    device: dict[str, Any] = (await api.post("/devices", json={"name": "n"})).json()
    return device


def login(lab: Lab, device: dict[str, Any], token: str | None = None) -> str:
    """Return the broker's URL with user name and password of the device."""
    user, password = device["mqtt_username"], token or device["token"]
    return lab.url.replace("://", f"://{quote(user)}:{quote(password)}@")


def topic_of(device: dict[str, Any]) -> str:
    return f"devices/{device['key']}/stats"


async def is_refused(url: str, client_id: str) -> bool:
    """Return whether the broker refuses the connection."""
    try:
        async with connected(url, client_id):
            return False
    except AssertionError:
        return True


async def until_cut_off(client: RawClient, topic: str) -> None:
    """Publish until the broker ends the connection."""

    async def ended() -> bool:
        if not client.ended:
            await client.publish(topic, READING)
            await asyncio.sleep(TRY_AGAIN_S)
        return client.ended

    await eventually(ended, bool)


async def test_a_device_connects_and_publishes_to_its_own_topic_alone(asker: Lab, api: httpx.AsyncClient) -> None:
    device, other = await registered(api), await registered(api)
    user = device["mqtt_username"]
    assert await is_refused(asker.url, user)
    assert await is_refused(login(asker, device, other["token"]), user)
    assert await is_refused(login(asker, device), "another-client")
    async with connected(login(asker, device), user) as client:
        await client.publish(topic_of(device), READING)
        await client.all_acknowledged()
        for topic in ("devices/+/stats", topic_of(device), "#", "$SYS/#", "$share/g/devices/+/stats"):
            assert await client.subscribe(topic) >= REFUSED, topic
        await until_cut_off(client, topic_of(other))
        assert not any(topic == topic_of(other) for topic, _ in client.acknowledged)


async def test_a_client_with_a_former_token_is_disconnected(asker: Lab, api: httpx.AsyncClient) -> None:
    device = await registered(api)
    user = device["mqtt_username"]
    async with connected(login(asker, device), user) as client:
        await client.publish(topic_of(device), READING)
        await client.all_acknowledged()
        token = (await api.post(f"/devices/{device['id']}/token")).json()["token"]
        await until_cut_off(client, topic_of(device))
    assert await is_refused(login(asker, device), user)
    async with connected(login(asker, device, token), user) as client:
        await client.publish(topic_of(device), READING)
        await client.all_acknowledged()


async def test_a_deleted_device_is_disconnected(asker: Lab, api: httpx.AsyncClient) -> None:
    device = await registered(api)
    user = device["mqtt_username"]
    async with connected(login(asker, device), user) as client:
        await client.publish(topic_of(device), READING)
        await client.all_acknowledged()
        await api.delete(f"/devices/{device['id']}")
        await until_cut_off(client, topic_of(device))
    await eventually(partial(is_refused, login(asker, device), user), bool)
