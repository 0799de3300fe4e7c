"""Display of dead letters."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from deploy.terminal import shortened
from shared.dead_letters import bitmap
from shared.dead_letters.letters import Count, Letter
from shared.status.words import counted, printable

HEXDUMP_WIDTH = 16
TOPIC_SHOWN = 60
DETAIL_SHOWN = 120
"""Characters of a topic in a list."""
RANGES_SHOWN = 20
"""Ranges of refused elements that are shown."""


def total(count: Count) -> str:
    """Return the number of dead letters, and of their refused readings."""
    return f"{counted(count.letters, 'dead letter')} ({counted(count.readings, 'refused reading')})"


def table(letters: list[Letter]) -> Table:
    """Return a table with a line for each dead letter."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "received", "reason"):
        shown.add_column(column, no_wrap=True)
    for column in ("readings", "topic", "bytes", "detail"):
        shown.add_column(column, overflow="fold")
    for letter in letters:
        fields = (
            str(letter.id),
            f"{letter.received_at:%Y-%m-%d %H:%M:%S}",
            letter.reason,
            str(letter.readings),
            shortened(letter.topic, TOPIC_SHOWN),
            str(letter.payload_bytes),
            shortened(_summary(letter), DETAIL_SHOWN),
        )
        shown.add_row(*(Text(printable(field)) for field in fields))
    return shown


def _summary(letter: Letter) -> str:
    return letter.detail if letter.received_until is None else f"{letter.messages:,} messages {letter.detail}"


def whole(letter: Letter) -> str:
    """Return one dead letter: its fields and faults, then the payload as text, or as a hexdump if it is binary."""
    head = "\n".join(f"{name:<13} {printable(value)}" for name, value in _fields(letter))
    if letter.received_until is not None:
        return head
    return f"{head}\n\n{_readable(letter.payload)}"


def _fields(letter: Letter) -> Iterator[tuple[str, str]]:
    yield "id", str(letter.id)
    yield "received", letter.received_at.isoformat()
    if letter.received_until is not None:
        yield "until", letter.received_until.isoformat()
        yield "messages", f"{letter.messages:,}"
    yield "reason", letter.reason
    yield "detail", letter.detail
    yield "readings", ", ".join(f"{count:,} {reason}" for reason, count in letter.reasons.items())
    if letter.refused is not None:
        yield "elements", _elements(letter.refused)
    for fault in letter.faults if letter.readings > 1 else ():
        where = "all" if fault["index"] is None else f"element {fault['index']}"
        yield where, f"{fault['reason']}: {fault['detail']}"
    yield "topic", letter.topic
    yield "content type", letter.content_type or "none"
    yield "payload", _length(letter)


def _length(letter: Letter) -> str:
    length = counted(letter.payload_bytes, "byte")
    if letter.received_until is not None:
        return f"{length} in total, not kept"
    if len(letter.payload) < letter.payload_bytes:
        return f"{length}, of which the first {len(letter.payload):,} were kept"
    return length


def _elements(refused: bytes) -> str:
    found = [f"{first}" if first == last else f"{first}-{last}" for first, last in bitmap.ranges(refused)]
    more = f" and {len(found) - RANGES_SHOWN:,} more ranges" if len(found) > RANGES_SHOWN else ""
    return ", ".join(found[:RANGES_SHOWN]) + more


def _readable(payload: bytes) -> str:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return hexdump(payload)
    return text if printable(text) == text else hexdump(payload)


def hexdump(data: bytes) -> str:
    """Return sixteen bytes a line: offset, hexadecimal, and printable ASCII."""
    lines = []
    for start in range(0, len(data), HEXDUMP_WIDTH):
        part = data[start : start + HEXDUMP_WIDTH]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{HEXDUMP_WIDTH * 3 - 1}}  |{text}|")
    return "\n".join(lines)
