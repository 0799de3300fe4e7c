"""A format of readings: its names, and the COPY and encoder of its stream."""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import LiteralString
from zoneinfo import ZoneInfo

import msgspec

from query_api.readings.row_stream import Copy, Order

Encode = Callable[[bytes, bool], Awaitable[bytes]]
"""Encodes a block of COPY data. The flag states whether more blocks follow."""


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

    def copy(self, order: Order, zone: ZoneInfo | None = None) -> Copy:
        """Return the COPY of the rows in this order."""
        return Copy(self.columns if zone is None else self.zoned_columns, order, self.options)
