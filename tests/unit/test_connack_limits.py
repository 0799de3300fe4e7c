"""The limits in a CONNACK have texts, and each is logged once."""

import pytest
from mqtt5 import ConnAckPacket, QoS
from structlog.testing import capture_logs

from deploy.doctor.limits import examine_limits
from ingestor.session.limits import SESSION_EXPIRY_S, LimitsLog, find_limits, largest_packet
from shared.settings import Settings
from shared.status.findings import Severity

PLAIN = Settings()
SHARED = Settings(mqtt_topic="$share/group/devices/+/stats")
NEEDED = largest_packet(PLAIN.mqtt_topic)


@pytest.mark.parametrize(
    "connack",
    [
        ConnAckPacket(),
        ConnAckPacket(session_expiry_interval=SESSION_EXPIRY_S, receive_max=20, max_packet_size=NEEDED),
        ConnAckPacket(session_expiry_interval=2**32 - 1, topic_alias_max=10, subscription_id_available=False),
    ],
)
def test_what_is_enough_is_no_limit(connack: ConnAckPacket) -> None:
    assert find_limits(connack, SHARED) == []


@pytest.mark.parametrize(
    ("connack", "settings", "words"),
    [
        (
            ConnAckPacket(session_expiry_interval=0),
            PLAIN,
            ("while the ingestor is offline are lost", "raise its limit on"),
        ),
        (ConnAckPacket(session_expiry_interval=3600), PLAIN, ("for 3600 s only", "to 604800 s, seven days")),
        (ConnAckPacket(max_qos=QoS.AT_MOST_ONCE), PLAIN, ("QoS 0 only", "readings are lost")),
        (ConnAckPacket(max_packet_size=NEEDED - 1), PLAIN, (f"up to {NEEDED - 1} bytes", f"needs {NEEDED}")),
        (
            ConnAckPacket(shared_subscription_available=False),
            SHARED,
            ("remove $share/group/ from DEVICESTAT_MQTT_TOPIC",),
        ),
        (ConnAckPacket(wildcard_subscription_available=False), SHARED, ("which devices/+/stats needs",)),
    ],
)
def test_what_loses_readings_is_wrong(connack: ConnAckPacket, settings: Settings, words: tuple[str, ...]) -> None:
    (finding,) = examine_limits(connack, settings, is_mosquitto=False)
    assert finding.severity is Severity.WRONG
    assert all(part in finding.text for part in words), finding.text


@pytest.mark.parametrize(
    ("connack", "words"),
    [
        (ConnAckPacket(max_qos=QoS.AT_LEAST_ONCE), "does not support QoS 2"),
        (ConnAckPacket(receive_max=10), "accepts 10 unacknowledged messages of one client"),
        (
            ConnAckPacket(shared_subscription_available=False),
            "does not support shared subscriptions, which several ingestors need",
        ),
    ],
)
def test_what_loses_none_is_shown(connack: ConnAckPacket, words: str) -> None:
    (finding,) = examine_limits(connack, PLAIN, is_mosquitto=False)
    assert finding.severity is Severity.OK
    assert words in finding.text


def test_options_of_mosquitto_are_named_to_mosquitto_alone() -> None:
    hour = ConnAckPacket(session_expiry_interval=3600, max_packet_size=1000, max_qos=QoS.AT_MOST_ONCE)
    for option in ("persistent_client_expiration", "max_packet_size", "max_qos"):
        assert option in str(examine_limits(hour, PLAIN, is_mosquitto=True))
        assert option not in str(examine_limits(hour, PLAIN, is_mosquitto=False))


def test_a_limit_is_logged_once_and_again_when_it_changes() -> None:
    log = LimitsLog(PLAIN)
    hour, day = ConnAckPacket(session_expiry_interval=3600), ConnAckPacket(session_expiry_interval=86_400)
    with capture_logs() as lines:
        for connack in (hour, hour, day, day, ConnAckPacket(), ConnAckPacket(), ConnAckPacket(receive_max=10)):
            log.note(connack)
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("warning", "the broker sets a limit"),
        ("warning", "the broker sets a limit"),
        ("info", "the broker has removed its limits"),
        ("info", "the broker sets a limit"),
    ]
    assert "for 3600 s only" in lines[0]["limit"]
    assert "for 86400 s only" in lines[1]["limit"]
