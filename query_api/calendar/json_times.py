"""JSON whose times have six digits of a second, always.

msgspec writes a whole second without a fraction, and has no option for another form. Readers that take the form of a
column from its first values, as pandas does, then take the column for text. So the fraction is added after encoding.
Only the values of members are changed that are named as the API's times are: no text of a client is.
"""

import re

import msgspec

_NAMES = rb"(?:timestamp|start|end|since|[a-z_]+_(?:at|tick))"
"""The members that are times. In a string a quote is escaped, so nothing else in JSON looks like one."""
_WHOLE_SECOND = re.compile(rb'("' + _NAMES + rb'":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8})(?=[Z+-])')
_is_time = re.compile(_NAMES.decode()).fullmatch
_encoder = msgspec.json.Encoder()


def encode(value: object) -> bytes:
    """The value as JSON, with times of six digits."""
    parts = _WHOLE_SECOND.split(_encoder.encode(value))  # text, time, text, …: a template would take ten times as long
    parts[1::2] = [time + b".000000" for time in parts[1::2]]
    return b"".join(parts)


def is_time(member: str) -> bool:
    """Whether members of this name have their fraction added."""
    return _is_time(member) is not None
