"""JSON encoding in which every time has six fractional digits.

msgspec writes a whole second without a fraction. A reader that infers the type of a column from its first values, as
pandas does, then reads the column as text. So the fraction is added after encoding, and only to members with the names
of times, so that texts of clients are unchanged.
"""

import re

import msgspec

from shared.event_loop.parts import in_parts

_NAMES = rb"(?:timestamp|tick|start|end|since|[a-z_]+_(?:at|tick|until))"
"""Names of members that are times. In JSON a string escapes quotes, so only a member matches."""
_WHOLE_SECOND = re.compile(rb'("' + _NAMES + rb'":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8})(?=[Z+-])')
_is_time = re.compile(_NAMES.decode()).fullmatch
_encoder = msgspec.json.Encoder()


def encode(value: object) -> bytes:
    """Encode the value as JSON, with six fractional digits in times."""
    parts = _WHOLE_SECOND.split(
        _encoder.encode(value)
    )  # text, time, text, …; re.sub with a template takes ten times as long
    parts[1::2] = [time + b".000000" for time in parts[1::2]]
    return b"".join(parts)


async def encode_in_parts(value: object) -> bytes:
    """Encode the value as `encode` does. Other requests are served between the parts of a long list."""
    if not isinstance(value, list):
        return encode(value)
    parts = await in_parts(value, encode)
    return parts[0] if len(parts) == 1 else b"[%b]" % b",".join([part[1:-1] for part in parts])


def is_time(member: str) -> bool:
    """Return whether a fraction is added to members of this name."""
    return _is_time(member) is not None
