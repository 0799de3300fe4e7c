"""Every reason code of a refusal in MQTT 5 has a text and advice."""

import pytest
from mqtt5 import ConnAckPacket, ConnAckReasonCode, SubAckPacket, SubAckReasonCode

from ingestor.mqtt.reasons import check_connack, check_suback
from shared.errors import ConnectionRefused, SubscriptionRefused
from shared.settings import parse_mqtt_url

ADDRESS = parse_mqtt_url("mqtt://user:hunter2@broker:1883")


def codes(enumeration: type) -> list[object]:
    return [code for name in dir(enumeration) if name.isupper() for code in [getattr(enumeration, name)]]


@pytest.mark.parametrize("code", codes(ConnAckReasonCode), ids=str)
def test_every_connack_reason(code: ConnAckReasonCode) -> None:
    packet = ConnAckPacket(reason_code=code)
    if code == ConnAckReasonCode.SUCCESS:
        assert check_connack(packet, ADDRESS) is None
        return
    with pytest.raises(ConnectionRefused) as caught:
        check_connack(packet, ADDRESS)
    words = code.name.lower().replace("_", " ")
    assert str(caught.value).startswith(f"the broker at broker:1883 refuses the connection: {words}: ")
    assert caught.value.reason == words


@pytest.mark.parametrize("code", codes(SubAckReasonCode), ids=str)
def test_every_suback_reason(code: SubAckReasonCode) -> None:
    packet = SubAckPacket(1, [code])
    if code in (SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE, SubAckReasonCode.GRANTED_QOS_EXACTLY_ONCE):
        assert check_suback(packet, "devices/+/stats") is None
        return
    with pytest.raises(SubscriptionRefused, match=r"devices/\+/stats") as caught:
        check_suback(packet, "devices/+/stats")
    assert caught.value.reason == code.name.lower().replace("_", " ")


def test_the_brokers_own_words_are_passed_on() -> None:
    packet = ConnAckPacket(
        reason_code=ConnAckReasonCode.SERVER_MOVED, reason_str="gone fishing", server_reference="other:1883"
    )
    with pytest.raises(ConnectionRefused, match=r"'gone fishing'.*other:1883"):
        check_connack(packet, ADDRESS)
