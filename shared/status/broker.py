"""The figures that Mosquitto publishes about itself: messages that wait for its clients, and dropped ones.

They are retained messages below `$SYS/broker`, which Mosquitto writes every `sys_interval` seconds, by default 10.
Other brokers do not publish these topics, and access control may forbid them. No figure is of one client.
"""

import re
from collections.abc import Mapping

from shared.status.figures import BrokerFigures
from shared.status.findings import Finding, Severity
from shared.status.words import counted, printable

_VERSION = "$SYS/broker/version"
_DROPPED = "$SYS/broker/publish/messages/dropped"
_DROPPED_A_MINUTE = "$SYS/broker/load/publish/dropped/1min"
_BYTES = "$SYS/broker/store/messages/bytes"
_STORED = "$SYS/broker/store/messages/count"
_RETAINED = "$SYS/broker/retained messages/count"
TOPICS = (_VERSION, _DROPPED, _DROPPED_A_MINUTE, _STORED, _BYTES, _RETAINED)
RIGHT_MESSAGES = "10000000"
RIGHT_BYTES = "2000000000"
"""The values in mosquitto.conf."""
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_LONGEST_VERSION = 100


def figures_of(messages: Mapping[str, bytes]) -> BrokerFigures:
    """Return the figures in the payloads by topic. A figure is None if it is not there, or is no number."""
    texts = {topic: payload.decode(errors="replace") for topic, payload in messages.items()}

    def whole(topic: str) -> int | None:
        return int(texts[topic]) if _WHOLE.fullmatch(texts.get(topic, "")) else None

    stored, retained = whole(_STORED), whole(_RETAINED)
    rate = texts.get(_DROPPED_A_MINUTE, "")
    return BrokerFigures(
        version=printable(texts[_VERSION][:_LONGEST_VERSION]) if _VERSION in texts else None,
        waiting=None if stored is None or retained is None else max(0, stored - retained),
        waiting_bytes=whole(_BYTES),
        dropped=whole(_DROPPED),
        dropped_per_minute=float(rate) if _DECIMAL.fullmatch(rate) else None,
    )


def is_mosquitto(figures: BrokerFigures) -> bool:
    """Whether the broker says that it is Mosquitto."""
    return figures.version is not None and figures.version.startswith("mosquitto")


def judge_broker(figures: BrokerFigures, window: int, place: str = "") -> list[Finding]:
    """Report the waiting and the dropped messages.

    `window`: messages that the ingestors may have received and not yet acknowledged. `place`: distinguishes several
    brokers, as " at broker-2:1883".
    """
    return [*_waiting(figures, window, place), *_dropped(figures, place)]


def _waiting(figures: BrokerFigures, window: int, place: str) -> list[Finding]:
    if figures.waiting is None:
        return []
    size = "" if figures.waiting_bytes is None else f" ({figures.waiting_bytes:,} bytes)"
    text = f"about {counted(figures.waiting, 'message')}{size} in the broker{place}, for all of its clients"
    if figures.waiting <= window:
        return [Finding(Severity.OK, "waiting", text)]
    text = f"{text}: is the ingestor running and fast enough?"
    if is_mosquitto(figures):
        bound = f"{RIGHT_MESSAGES} messages or {RIGHT_BYTES} bytes (mosquitto.conf)"
        text = f"{text} Beyond {bound} the broker drops messages of all devices"
    return [Finding(Severity.WARNING, "waiting", text)]


def _dropped(figures: BrokerFigures, place: str) -> list[Finding]:
    if not figures.dropped:
        return []
    on_mosquitto = is_mosquitto(figures)
    limits = "max_queued_messages and max_queued_bytes, as in mosquitto.conf" if on_mosquitto else "its queue limits"
    advice = (
        f"raise {limits}. If they are that large already, a device "
        "publishes faster than its messages are stored: POST /devices/{id}/token rotates its token and disconnects it"
    )
    text = (
        f"the broker{place} has dropped {counted(figures.dropped, 'acknowledged message')} for its clients since it "
        f"started, {figures.dropped_per_minute or 0:g} a minute now: {advice}"
    )
    return [Finding(Severity.WARNING, "dropped", text)]
