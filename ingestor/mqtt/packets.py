"""Bytes to packets, with the `mqtt5` codec, and the handling of a PUBLISH that it refuses.

The codec panics on text that is not UTF-8, and raises ValueError for other faults. MQTT allows the receiver to close
the connection (MQTT-1.5.4-1), but the broker would redeliver the same packet on the next one. So a PUBLISH that can be
acknowledged becomes a `RefusedPublish`, which is stored as a dead letter.
"""

from contextlib import suppress

import mqtt5
import msgspec
from mqtt5 import PublishPacket

from ingestor.mqtt.publish import MalformedPacket, split
from shared.postgres.storable import storable_bytes
from shared.readings.model import Reason

_PUBLISH, _TYPE = 0x30, 0xF0


class RefusedPublish(msgspec.Struct, frozen=True):
    """A PUBLISH that violates MQTT: the fields needed to store and acknowledge it, and the reason of the refusal.

    Text that is not UTF-8 is escaped (`shared.postgres.storable`).
    """

    topic: str
    content_type: str | None
    payload: bytes
    packet_id: int | None
    duplicate: bool
    reason: Reason
    detail: str


Packet = mqtt5.Packet | RefusedPublish
Delivered = PublishPacket | RefusedPublish
"""A message from the broker."""


def refused(data: memoryview, error: BaseException) -> tuple[RefusedPublish, int]:
    """Return the PUBLISH that the codec refused with the error, and its size in bytes.

    Raises the error itself if it is not a refusal by the codec, IndexError if the packet is incomplete, and
    MalformedPacket if it is not a PUBLISH that can be acknowledged.
    """
    if isinstance(error, ValueError):
        return _refused(data, str(error))
    if type(error).__name__ == "PanicException":
        return _refused(data, "text that is not UTF-8")
    raise error


def read_checked(data: memoryview) -> tuple[Packet, int]:
    """Read a packet with the codec, but check the texts of a PUBLISH first: a panic writes to standard error.

    It is slower than `mqtt5.read`, and used after a broker has sent text that is not UTF-8. Raises the same errors.
    """
    if len(data) > 0 and data[0] & _TYPE == _PUBLISH:
        with suppress(MalformedPacket):  # the codec reports the reason
            if split(data).ill_formed:
                return _refused(data, "")
    return mqtt5.read(data)


def _refused(data: memoryview, why: str) -> tuple[RefusedPublish, int]:
    if data[0] & _TYPE != _PUBLISH:
        raise MalformedPacket(why)
    try:
        parts = split(data)
    except MalformedPacket as error:
        raise MalformedPacket(why or str(error)) from error
    ill_formed = parts.ill_formed
    detail = f"{ill_formed} is not UTF-8 (MQTT-1.5.4-1)" if ill_formed else f"the packet is malformed: {why}"
    packet = RefusedPublish(
        topic=storable_bytes(parts.topic),
        content_type=None if parts.content_type is None else storable_bytes(parts.content_type),
        payload=parts.payload,
        packet_id=parts.packet_id,
        duplicate=parts.is_duplicate,
        reason=Reason.BAD_TOPIC if ill_formed == "the topic" else Reason.MALFORMED,
        detail=detail,
    )
    return packet, parts.size
