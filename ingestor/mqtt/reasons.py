"""Reason codes of the broker in words, with advice for the operator.

MQTT 5.0, sections 3.2.2.2 (CONNACK), 3.9.3 (SUBACK) and 3.11.3 (UNSUBACK).
"""

from collections.abc import Sequence

from mqtt5 import (
    ConnAckPacket,
    ConnAckReasonCode,
    DisconnectPacket,
    DisconnectReasonCode,
    SubAckPacket,
    SubAckReasonCode,
    UnsubAckPacket,
    UnsubAckReasonCode,
)

from shared.errors import ConnectionRefused, SubscriptionRefused
from shared.settings import MqttAddress

_FIRST_FAILURE = 0x80
"""First reason code of a failure (section 2.4)."""
_CREDENTIALS = "check user and password in DEVICESTAT_MQTT_URL"
_CONNACK_ADVICE = {
    ConnAckReasonCode.UNSPECIFIED_ERROR.value: "see the broker's log",
    ConnAckReasonCode.MALFORMED_PACKET.value: "the broker may not support MQTT 5",
    ConnAckReasonCode.PROTOCOL_ERROR.value: "the broker may not support MQTT 5",
    ConnAckReasonCode.IMPLEMENTATION_SPECIFIC_ERROR.value: "see the broker's log",
    ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION.value: "Devicestat needs a broker that supports MQTT 5",
    ConnAckReasonCode.CLIENT_ID_NOT_VALID.value: "the broker does not accept this DEVICESTAT_MQTT_CLIENT_ID",
    ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD.value: _CREDENTIALS,
    ConnAckReasonCode.NOT_AUTHORIZED.value: _CREDENTIALS,
    ConnAckReasonCode.SERVER_UNAVAILABLE.value: "the broker may be available again soon",
    ConnAckReasonCode.SERVER_BUSY.value: "the broker may be less busy soon",
    ConnAckReasonCode.BANNED.value: "the broker's administrator has banned this client",
    ConnAckReasonCode.BAD_AUTHENTICATION_METHOD.value: "it requires an authentication method that Devicestat lacks",
    ConnAckReasonCode.TOPIC_NAME_INVALID.value: "see the broker's log",
    ConnAckReasonCode.PACKET_TOO_LARGE.value: "raise its limit on packet size, which is below a CONNECT",
    ConnAckReasonCode.QUOTA_EXCEEDED.value: "raise the broker's limit on clients or connections",
    ConnAckReasonCode.PAYLOAD_FORMAT_INVALID.value: "see the broker's log",
    ConnAckReasonCode.RETAIN_NOT_SUPPORTED.value: "see the broker's log",
    ConnAckReasonCode.QUALITY_NOT_SUPPORTED.value: "Devicestat needs a broker that supports QoS 1",
    ConnAckReasonCode.USE_ANOTHER_SERVER.value: "set DEVICESTAT_MQTT_URL to another broker",
    ConnAckReasonCode.SERVER_MOVED.value: "set DEVICESTAT_MQTT_URL to the broker's new address",
    ConnAckReasonCode.CONNECTION_RATE_EXCEEDED.value: "raise the broker's limit on the rate of connections",
}
_SUBACK_ADVICE = {
    SubAckReasonCode.UNSPECIFIED_ERROR.value: "see the broker's log",
    SubAckReasonCode.IMPLEMENTATION_SPECIFIC_ERROR.value: "see the broker's log",
    SubAckReasonCode.NOT_AUTHORIZED.value: "allow this client to subscribe to it in the broker's access control",
    SubAckReasonCode.TOPIC_FILTER_INVALID.value: "set DEVICESTAT_MQTT_TOPIC to a filter that the broker accepts",
    SubAckReasonCode.PACKET_ID_IN_USE.value: "see the broker's log",
    SubAckReasonCode.QUOTA_EXCEEDED.value: "raise the broker's limit on subscriptions",
    SubAckReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED.value: "remove $share/<group>/ from DEVICESTAT_MQTT_TOPIC",
    SubAckReasonCode.SUBSCRIPTION_IDS_NOT_SUPPORTED.value: "see the broker's log",
    SubAckReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED.value: "Devicestat needs wildcard subscriptions",
}


def check_connack(packet: ConnAckPacket, address: MqttAddress) -> None:
    """Raise ConnectionRefused unless the broker has accepted the connection."""
    code = packet.reason_code
    if code == ConnAckReasonCode.SUCCESS:
        return
    said = f" and says {packet.reason_str!r}" if packet.reason_str else ""
    elsewhere = f" ({packet.server_reference})" if packet.server_reference else ""
    raise ConnectionRefused(
        f"the broker at {address} refuses the connection: {_words(code)}{said}: "
        f"{_CONNACK_ADVICE[code.value]}{elsewhere}",
        reason=_words(code),
    )


def check_suback(packet: SubAckPacket, pattern: str) -> None:
    """Raise SubscriptionRefused unless the broker has granted QoS 1."""
    code = packet.reason_codes[0]
    if code == SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE:
        raise SubscriptionRefused(
            f"the broker grants only QoS 0 on {pattern}, without redelivery: allow QoS 1 in its configuration",
            reason=_words(code),
        )
    if code.value in _SUBACK_ADVICE:
        said = f" and says {packet.reason_str!r}" if packet.reason_str else ""
        raise SubscriptionRefused(
            f"the broker refuses the subscription to {pattern}: {_words(code)}{said}: {_SUBACK_ADVICE[code.value]}",
            reason=_words(code),
        )


def check_unsuback(packet: UnsubAckPacket, patterns: Sequence[str]) -> None:
    """Raise SubscriptionRefused if the broker keeps a subscription."""
    for code, pattern in zip(packet.reason_codes, patterns, strict=False):
        if code.value >= _FIRST_FAILURE:
            raise SubscriptionRefused(
                f"the broker refuses to end the subscription to {pattern} ({_words(code)}), so each message would be "
                "delivered twice: allow it in the broker's access control",
                reason=_words(code),
            )


def ended(packet: UnsubAckPacket, patterns: Sequence[str]) -> list[str]:
    """Return the patterns whose subscriptions existed and are ended."""
    found = zip(packet.reason_codes, patterns, strict=False)
    return [pattern for code, pattern in found if code == UnsubAckReasonCode.SUCCESS]


def describe(farewell: DisconnectPacket) -> str:
    """Return the broker's reason for its DISCONNECT."""
    return farewell.reason_str or _words(farewell.reason_code)


def _words(code: ConnAckReasonCode | SubAckReasonCode | UnsubAckReasonCode | DisconnectReasonCode) -> str:
    return code.name.lower().replace("_", " ")
