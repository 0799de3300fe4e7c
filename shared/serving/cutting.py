"""Cut the connection of a request, so that its client receives nothing more, not even what is in the buffers."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

_EXTENSION = "devicestat.transport"
_DISCARD = struct.pack("ii", 1, 0)
"""struct linger of SO_LINGER, socket(7): the kernel discards what it has not sent, and sends RST."""


def with_transport(transport: asyncio.Transport) -> dict[str, Any]:
    """Return the extensions of the scope of a request on the transport."""
    return {_EXTENSION: transport}


def cut(scope: Mapping[str, Any]) -> None:
    """Close the connection of the request at once, and discard what its client has not received yet."""
    transport: asyncio.Transport = scope["extensions"][_EXTENSION]
    if not transport.is_closing():
        with suppress(OSError):  # the client has closed it
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
        transport.abort()
