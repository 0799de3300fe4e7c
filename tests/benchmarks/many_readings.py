"""Publisher of a reading for each of many devices, at QoS 1 with one client."""

import asyncio
from collections.abc import Sequence

_CONNECT = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x03all"
_PAYLOAD = b'{"x":1,"y":2,"z":3}'
_AT_ONCE = 1_000
_ACKNOWLEDGED = 0x40


async def publish_of_each(port: int, topics: Sequence[str]) -> None:
    """Publish a reading to each topic, and wait for the acknowledgements."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_CONNECT)
    await _packet(reader)
    for start in range(0, len(topics), _AT_ONCE):
        sent = topics[start : start + _AT_ONCE]
        writer.write(b"".join(_publish(topic, number) for number, topic in enumerate(sent, start=1)))
        for _ in sent:
            assert await _packet(reader) == _ACKNOWLEDGED
    writer.close()
    await writer.wait_closed()


def _publish(topic: str, packet_id: int) -> bytes:
    name = topic.encode()
    body = len(name).to_bytes(2) + name + packet_id.to_bytes(2) + b"\x00" + _PAYLOAD
    assert len(body) < 128, "its length is one byte"
    return bytes((0x32, len(body))) + body


async def _packet(reader: asyncio.StreamReader) -> int:
    head = await reader.readexactly(2)
    await reader.readexactly(head[1])
    return head[0]
