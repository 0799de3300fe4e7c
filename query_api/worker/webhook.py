"""Send one webhook: signed, to a checked address, and bounded in time and size.

The signature follows Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over "id.timestamp.body". The
host name is resolved once, all its addresses are checked, and the connection uses one of them. So a name cannot change
its address between the check and the connection (DNS rebinding). Redirects are not followed.
"""

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpcore
from httpcore import AsyncNetworkBackend, AsyncNetworkStream

from query_api.queue.addresses import ONLY_PUBLIC, Ports, check_port, is_public, without_addresses
from shared.settings import WebhookSecret

STEP_TIMEOUT_S = 5.0
"""Timeout of each step: connecting, TLS, sending, the start of the response."""
TIMEOUT_S = 20.0
"""Timeout of all steps together, and of the lookup of the name."""
CONTENT_TIMEOUT_S = 1.0
"""Longest time for reading the content of a response."""
MAX_CONTENT_BYTES = 64 * 1024
"""Most bytes that are read of the content of a response."""


Resolve = Callable[[str, int], Awaitable[list[str]]]


class Undelivered(Exception):
    """The call failed. The message has the reason for the client, without the addresses of the host."""


class Webhook:
    """Sends calls, signed with the secret."""

    def __init__(
        self,
        secret: WebhookSecret | None,
        network: "CheckedNetwork",
        *,
        step_timeout_s: float = STEP_TIMEOUT_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._key = None if secret is None else secret.key
        self._network = network
        self._step_timeout_s = step_timeout_s
        self._timeout_s = timeout_s

    async def send(self, url: str, message_id: str, timestamp: int, body: bytes) -> None:
        """POST the body. Raises Undelivered unless the response is a 2xx in time."""
        if self._key is None:
            raise Undelivered("DEVICESTAT_WEBHOOK_SECRET is not set for the worker")
        headers: dict[bytes | str, bytes | str] = {
            "Host": host(url),
            "Content-Type": "application/json",
            "User-Agent": "devicestat",
            "Accept": "*/*",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._key, message_id, timestamp, body),
        }
        try:
            status = await self._post(url, headers, body)
        except httpcore.TimeoutException:
            raise Undelivered(f"it did not respond within {self._step_timeout_s:g} seconds") from None
        except TimeoutError:
            raise Undelivered(f"it did not respond within {self._timeout_s:g} seconds") from None
        except (OSError, ValueError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Undelivered(without_addresses(str(error)) or type(error).__name__) from error
        if not 200 <= status < 300:
            raise Undelivered(
                f"it responded with {status}{': redirects are not followed' if 300 <= status < 400 else ''}"
            )

    async def _post(self, url: str, headers: dict[bytes | str, bytes | str], body: bytes) -> int:
        # A new connection for each call, so that the next call resolves the name again.
        steps = dict.fromkeys(("connect", "read", "write", "pool"), self._step_timeout_s)
        secure = _tls() if url[:5].lower() == "https" else None
        async with (
            asyncio.timeout(self._timeout_s) as limit,
            httpcore.AsyncConnectionPool(secure, network_backend=self._network, max_keepalive_connections=0) as calls,
            calls.stream("POST", url, headers=headers, content=body, extensions={"timeout": steps}) as answer,
        ):
            limit.reschedule(asyncio.get_running_loop().time() + CONTENT_TIMEOUT_S + 1)
            await _read_some(answer)
            return answer.status


def host(url: str) -> str:
    """Return the header Host (RFC 9112 section 3.2), as httpcore omits the brackets of an IPv6 address."""
    return urlsplit(url).netloc


async def _read_some(answer: httpcore.Response) -> None:
    """Read and discard the content, within bounds, so that the sender sees no broken connection."""
    size = 0
    with suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        async with asyncio.timeout(CONTENT_TIMEOUT_S):
            async for part in answer.aiter_stream():
                size += len(part)
                if size > MAX_CONTENT_BYTES:
                    break


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header webhook-signature."""
    signed = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed.digest()).decode()}"


@cache
def _tls() -> ssl.SSLContext:
    return httpcore.default_ssl_context()


class CheckedNetwork(AsyncNetworkBackend):
    """Network that connects to the addresses of a host after it has checked all of them."""

    def __init__(self, *, allow_private: bool, ports: Ports, resolve: Resolve | None = None) -> None:
        """`resolve`: returns the addresses of a host, each once; None: ask the system."""
        self._allow_private = allow_private
        self._ports = ports
        self._resolve = resolve or _resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to the first address of the host that accepts. Raises Undelivered."""
        try:
            check_port(port, self._ports)
        except ValueError as error:
            raise Undelivered(str(error)) from None
        addresses = await self._resolve(host, port)
        if not self._allow_private:
            for address in addresses:
                _require_public(host, address)
        refusal: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                refusal = error
        raise Undelivered(f"no connection to {host}, port {port}: {without_addresses(str(refusal)) or 'no response'}")

    async def sleep(self, seconds: float) -> None:
        """Sleep, as httpcore's interface requires."""
        await self._network.sleep(seconds)


async def _resolve(host: str, port: int) -> list[str]:
    """Return the distinct addresses of the host. Raises Undelivered if it has none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Undelivered(f"the host {host} has no address: {error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _require_public(host: str, address: str) -> None:
    if not is_public(ip_address(address)):
        raise Undelivered(f"{host} has an address that is not public: {ONLY_PUBLIC}")
