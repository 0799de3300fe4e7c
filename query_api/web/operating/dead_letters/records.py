"""Records of a dead letter in responses."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from shared.dead_letters import bitmap
from shared.dead_letters.letters import Letter
from shared.dead_letters.replaying import Decoder
from shared.readings.model import ElementFault, Reason

PREVIEW_BYTES = 120
Reasons = Annotated[
    Mapping[str, int],
    msgspec.Meta(description="The number of refused readings by reason.", examples=[{"out_of_range": 2}]),
]


class Encoding(StrEnum):
    """The form of bytes in a text."""

    TEXT = "text"
    BASE64 = "base64"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message of which readings were refused, or the number of such messages beyond those that are kept."""

    id: Annotated[int, msgspec.Meta(description="Id of the dead letter.", examples=[1])]
    received_at: Annotated[datetime, msgspec.Meta(description="Time of receipt.")]
    received_until: Annotated[
        datetime | None,
        msgspec.Meta(
            description="Not null if this counts several messages, whose payloads were not kept "
            "(DEAD_LETTERS_PER_MINUTE): the time of the last one."
        ),
    ]
    topic: Annotated[str, msgspec.Meta(description="The topic of the message.", examples=["devices/7/stats"])]
    content_type: Annotated[
        str | None, msgspec.Meta(description="The content type of the message; null if it had none.")
    ]
    reason: Annotated[Reason, msgspec.Meta(description="The most frequent reason.", examples=["out_of_range"])]
    detail: Annotated[
        str,
        msgspec.Meta(
            description="The first fault of that reason.", examples=["x: 5000 is not a number from -1000 to 1000"]
        ),
    ]
    messages: Annotated[int, msgspec.Meta(description="Number of messages: 1, but where several are counted.")]
    readings: Annotated[int, msgspec.Meta(description="Number of refused readings.", examples=[2])]
    reasons: Reasons
    payload_bytes: Annotated[int, msgspec.Meta(description="Length of the payload.", examples=[27])]
    kept_bytes: Annotated[
        int,
        msgspec.Meta(description="Length of what was kept of it: less if the payload was too large, or not kept."),
    ]
    preview: Annotated[
        str, msgspec.Meta(description=f"The first {PREVIEW_BYTES} bytes of the payload.", examples=['{"x": 5000}'])
    ]
    preview_encoding: Annotated[
        Encoding, msgspec.Meta(description="text: the preview is UTF-8 without control characters. base64: it is not.")
    ]


class LetterFault(msgspec.Struct, frozen=True, kw_only=True):
    """What was wrong with a message or an element of it."""

    index: Annotated[
        int | None, msgspec.Meta(description="Index of the element in the array; null: the whole message.")
    ]
    reason: Annotated[Reason, msgspec.Meta(description="The reason.", examples=["out_of_range"])]
    detail: Annotated[str, msgspec.Meta(description="The fault, and the expected value.")]
    start_byte: Annotated[
        int | None,
        msgspec.Meta(
            description="Where in the payload it is: the first byte of the value or the element, or the byte at which "
            "the payload could not be read any further. null if it is in no place, as an unknown device.",
            examples=[6],
        ),
    ]
    end_byte: Annotated[
        int | None, msgspec.Meta(description="The byte behind it: start_byte if the payload is cut off there.")
    ]


class WholeDeadLetter(DeadLetter, frozen=True, kw_only=True):
    """A dead letter with its payload and its faults."""

    faults: Annotated[
        list[LetterFault],
        msgspec.Meta(description="The first ten faults of the message, and the first of each reason."),
    ]
    refused_elements: Annotated[
        list[tuple[int, int]] | None,
        msgspec.Meta(
            description="Which elements of the array were refused: the first and the last index of each range. null: "
            "all of them.",
            examples=[[[3, 3], [7, 9]]],
        ),
    ]
    text: Annotated[str | None, msgspec.Meta(description="The kept payload as text; null if it is not UTF-8.")]
    hex: Annotated[
        str,
        msgspec.Meta(
            description="The kept payload as hexadecimal digits, two for each byte.", examples=["7b2278223a353030307d"]
        ),
    ]
    missing: Annotated[
        str | None, msgspec.Meta(description="Why it cannot be replayed; null if it is complete and can be.")
    ]


def shown(letter: Letter) -> DeadLetter:
    """Return the dead letter for a list. Its payload is the beginning, of PREVIEW_BYTES."""
    return DeadLetter(**_fields(letter))  # type: ignore[arg-type]


def whole(letter: Letter, decoder: Decoder) -> WholeDeadLetter:
    """Return the dead letter with its payload."""
    return WholeDeadLetter(
        **_fields(letter),  # type: ignore[arg-type]
        faults=_faults(letter, decoder),
        refused_elements=None if letter.refused is None else bitmap.ranges(letter.refused),
        text=_text(letter.payload),
        hex=letter.payload.hex(),
        missing=letter.missing,
    )


def _fields(letter: Letter) -> Mapping[str, object]:
    preview, encoding = previewed(letter.payload[:PREVIEW_BYTES], is_cut=letter.kept > PREVIEW_BYTES)
    names = (name for name in DeadLetter.__struct_fields__ if hasattr(letter, name))
    return {
        **{name: getattr(letter, name) for name in names},
        "reason": Reason(letter.reason),
        "kept_bytes": letter.kept,
        "preview": preview,
        "preview_encoding": encoding,
    }


def previewed(beginning: bytes, *, is_cut: bool) -> tuple[str, Encoding]:
    """Return the beginning of a payload as text if it is printable, else in base64. `is_cut`: there is more."""
    for length in range(len(beginning), max(len(beginning) - 4 * is_cut, 0) - 1, -1):  # a character may be cut
        text = _text(beginning[:length])
        if text is not None:
            if all(character.isprintable() or character in "\t\n\r" for character in text):
                return text, Encoding.TEXT
            break
    return base64.b64encode(beginning).decode(), Encoding.BASE64


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _faults(letter: Letter, decoder: Decoder) -> list[LetterFault]:
    faults: Sequence[ElementFault] = msgspec.convert(letter.faults, list[ElementFault])
    places = [None] * len(faults) if letter.missing else decoder.places(letter.payload, letter.content_type, faults)
    return [
        LetterFault(
            index=fault.index,
            reason=fault.reason,
            detail=fault.detail,
            start_byte=None if place is None else place.start,
            end_byte=None if place is None else place.end,
        )
        for fault, place in zip(faults, places, strict=True)
    ]
