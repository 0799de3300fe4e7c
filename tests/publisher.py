"""Publishers that share no code with the product: paho-mqtt and mosquitto_pub."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec
from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.waiting import HANG_S

MAX_WAITING = 400
"""Messages in flight. paho iterates over all of them at each PUBACK."""
LINES_AT_ONCE = 50_000
"""Lines for one mosquitto_pub, which runs out of packet ids after 65,535 lines and exits with 0."""


class Message(msgspec.Struct, frozen=True):
    """A message to publish."""

    payload: bytes
    topic: str = "devices/1/stats"
    qos: int = 1
    content_type: str | None = None
    retain: bool = False


@contextmanager
def connected(host: str, port: int) -> Iterator[Client]:
    """Connect a client for the block."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(2000)
    client.connect(host, port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        with suppress(AttributeError):  # paho's thread ends at this moment
            client.loop_stop()


def _publish(client: Client, message: Message) -> MQTTMessageInfo:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if message.content_type is not None:
        properties.ContentType = message.content_type
    return client.publish(message.topic, message.payload, message.qos, message.retain, properties)


def publish_all(host: str, port: int, messages: Iterable[Message]) -> int:
    """Publish the messages; return their number when the broker has acknowledged all."""
    count = 0
    waiting: deque[MQTTMessageInfo] = deque()
    with connected(host, port) as client:
        for message in messages:
            count += 1  # 0 for no messages
            waiting.append(_publish(client, message))
            if len(waiting) >= MAX_WAITING:
                _acknowledged(waiting.popleft())
        for info in waiting:
            _acknowledged(info)
    return count


def _acknowledged(info: MQTTMessageInfo) -> None:
    info.wait_for_publish(HANG_S)
    assert info.is_published(), f"not acknowledged within {HANG_S:g} s"


async def publish_lines(host: str, port: int, topic: str, payloads: Sequence[bytes]) -> None:
    """Publish each payload at QoS 1 with mosquitto_pub, which is fast, and wait for its end."""
    for at in range(0, len(payloads), LINES_AT_ONCE):
        client = await asyncio.create_subprocess_exec(
            *("mosquitto_pub", "-h", host, "-p", str(port), "-V", "5", "-q", "1", "-t", topic, "-l"),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await client.communicate(b"\n".join(payloads[at : at + LINES_AT_ONCE]))
        assert client.returncode == 0, said.decode()


async def publish(host: str, port: int, *messages: Message) -> int:
    """Call `publish_all` in a thread."""
    return await asyncio.to_thread(publish_all, host, port, messages)
