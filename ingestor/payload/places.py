"""Where in a payload a fault is, as bytes. Pure, and only for display: a payload is decoded again, into parts.

A decoder of msgspec returns undecoded parts as views of the payload, so a part's address is its place.
"""

import re
from collections.abc import Sequence

import msgspec
import numpy as np

from ingestor.payload.decode import format_of, named_format
from ingestor.payload.formats import FIELDS, UNREADABLE
from ingestor.payload.undecodable import plain
from shared.dead_letters.replaying import Bytes
from shared.readings.model import ElementFault, Reason

_BYTE = re.compile(r"\(byte (\d+)\)\Z")
_FIELD = re.compile(rf"({'|'.join(FIELDS)})\b")
_NOWHERE = (Reason.UNKNOWN_DEVICE, Reason.BAD_TOPIC, Reason.TOO_LARGE)
"""Reasons that concern the message, not a part of its payload."""


def places(payload: bytes, content_type: str | None, faults: Sequence[ElementFault]) -> list[Bytes | None]:
    """Return the place of each fault: a value, an element, or the byte at which the decoder stopped.

    None for a fault of the whole message.
    """
    document = _Document(payload, content_type)
    return [None if fault.reason in _NOWHERE else document.place(fault) for fault in faults]


class _Document:
    """A payload in its parts. `broken`: the place at which it cannot be read; None if it can be."""

    def __init__(self, payload: bytes, content_type: str | None) -> None:
        self._read(payload, 0, content_type)
        if self.broken is not None and named_format(content_type) is None:
            document = plain(payload)
            if document != payload:
                self._read(document, len(payload.rstrip(b"\0")) - len(document), content_type)

    def _read(self, document: bytes, offset: int, content_type: str | None) -> None:
        """`offset`: the place of the document in the payload, behind byte order marks."""
        self._document = document
        self._offset = offset
        self._form = format_of(document, content_type)
        self._elements: Sequence[bytes | msgspec.Raw] = [document]
        self.broken = self._not_text(document) if self._form.content_type is None else None
        if self.broken is not None:
            return
        try:
            if self._form.is_array(document):
                self._elements = self._form.elements.decode(document)
            else:
                self._form.fields.decode(document)
        except msgspec.ValidationError:
            pass  # it is well-formed, and no object
        except UNREADABLE as error:
            self.broken = self._stop(document, error)

    def place(self, fault: ElementFault) -> Bytes | None:
        """Return the place of the fault."""
        index = fault.index or 0
        is_whole = fault.index is None and self._form.is_array(self._document)
        if self.broken is not None or is_whole or index >= len(self._elements):
            return self.broken
        return self._within(self._elements[index], fault.detail)

    def _within(self, element: bytes | msgspec.Raw, detail: str) -> Bytes:
        """Return the place of the field that the detail names, or else of the element."""
        field = _FIELD.match(detail)
        try:
            value = getattr(self._form.fields.decode(element), field[1]) if field else b""
        except msgspec.ValidationError:
            value = b""
        except UNREADABLE as error:
            return self._stop(element, error)
        return self._bytes(value if len(bytes(value)) else element)

    def _stop(self, part: bytes | msgspec.Raw, error: Exception) -> Bytes:
        """Return the byte at which the decoder stopped."""
        whole = self._bytes(part)
        stopped = _BYTE.search(str(error))
        if stopped is None:  # it is cut off, or nested too deeply
            return Bytes(whole.end, whole.end)
        start = min(whole.start + int(stopped[1]), whole.end)
        return Bytes(start, min(start + 1, whole.end))

    def _not_text(self, document: bytes) -> Bytes | None:
        """Return the first bytes of JSON that are not UTF-8, which the decoder does not check everywhere."""
        try:
            document.decode()
        except UnicodeDecodeError as error:
            return Bytes(self._offset + error.start, self._offset + error.end)
        return None

    def _bytes(self, part: bytes | msgspec.Raw) -> Bytes:
        length = len(memoryview(part))
        start = self._offset + (_address(part) - _address(self._document) if length else 0)
        return Bytes(start, start + length)


def _address(part: bytes | msgspec.Raw) -> int:
    address: int = np.frombuffer(part, np.uint8).__array_interface__["data"][0]
    return address
