"""A format of readings: its names, and the COPY and encoder of its stream."""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Literal, LiteralString
from zoneinfo import ZoneInfo

import msgspec

Order = Literal["asc", "desc"]
Encode = Callable[[bytes, bool], Awaitable[bytes]]
"""Encodes a block of COPY data. The flag states whether more blocks follow."""

_SELECT = """
    SELECT {columns}
    FROM readings
    WHERE device_id = %(device_id)s
      AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
      AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity')
    ORDER BY {order}
    LIMIT %(limit)s
"""
_ORDERS: dict[Order, LiteralString] = {
    "asc": "recorded_at, x, y, z",
    "desc": "recorded_at DESC, x DESC, y DESC, z DESC",
}


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A format of readings.

    `name`: the value of the parameter `format`, and the suffix of a path. `file_suffix`: the suffix of a saved file.
    `needs`: a module of the extra devicestat[arrow]; None: no extra is needed.
    """

    name: str
    media_type: str
    file_suffix: str
    needs: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the module is installed. It is not imported: the import takes longer than the start of the API."""
        return self.needs is None or find_spec(self.needs) is not None


class StreamFormat(Format, frozen=True, kw_only=True):
    """A format in which all readings are sent as one stream, from one COPY.

    `columns`, `options`: parts of the COPY. `zoned_columns`: the columns with times in a zone. `encoder`: returns a new
    encoder of COPY data, for one stream with times in the zone; None: in UTC.
    """

    description: str
    is_text: bool
    columns: LiteralString
    zoned_columns: LiteralString
    options: LiteralString = ""
    encoder: Callable[[ZoneInfo | None], Encode]

    def copy(self, order: Order, zone: ZoneInfo | None = None) -> LiteralString:
        """Return the COPY statement. Its parameters: device_id, start, end, limit."""
        columns = self.columns if zone is None else self.zoned_columns
        return "COPY (" + _SELECT.format(columns=columns, order=_ORDERS[order]) + ") TO STDOUT" + self.options
