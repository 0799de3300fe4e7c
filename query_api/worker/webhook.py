"""One call of a webhook: signed, to an address that was checked, and bounded in time and size.

The signature follows Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over "id.timestamp.body". The
host's name is resolved once; every address is checked, and the connection goes to one of those: a name cannot lead
elsewhere between the check and the call (DNS rebinding). No redirect is followed.
"""

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpcore
from httpcore import AsyncNetworkBackend, AsyncNetworkStream

from query_api.queue.addresses import ONLY_PUBLIC, Ports, check_port, is_public, without_addresses
from shared.settings import WebhookSecret

STEP_TIMEOUT_S = 5.0
"""Of each step of a call: the connection, TLS, sending, the answer's beginning."""
TIMEOUT_S = 20.0
"""Of all of them together, and the look-up of the name."""
CONTENT_TIMEOUT_S = 1.0
MAX_CONTENT_BYTES = 64 * 1024
"""Of an answer's content no more is read, and no longer."""


class Undelivered(Exception):
    """The call did not succeed; the message says why, in words for who asked for it, and names no address that the host
    leads to."""


class Webhook:
    """Makes calls, signed with the secret."""

    def __init__(self, secret: WebhookSecret | None, *, allow_private: bool, ports: Ports) -> None:
        self._key = None if secret is None else secret.key
        self._backend = CheckedNetwork(allow_private=allow_private, ports=ports)

    async def send(self, url: str, message_id: str, timestamp: int, body: bytes) -> None:
        """POSTs the body. Raises Undelivered unless a 2xx comes back in time."""
        if self._key is None:
            raise Undelivered("DEVICESTAT_WEBHOOK_SECRET is not set where the worker runs")
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
            raise Undelivered(f"it did not answer within {STEP_TIMEOUT_S:g} seconds") from None
        except TimeoutError:
            raise Undelivered(f"it did not answer within {TIMEOUT_S:g} seconds") from None
        except (OSError, ValueError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Undelivered(without_addresses(str(error)) or type(error).__name__) from error
        if not 200 <= status < 300:
            raise Undelivered(f"it answered {status}{': redirects are not followed' if 300 <= status < 400 else ''}")

    async def _post(self, url: str, headers: dict[bytes | str, bytes | str], body: bytes) -> int:
        # A connection of its own: the next call goes to what the name means then.
        steps = dict.fromkeys(("connect", "read", "write", "pool"), STEP_TIMEOUT_S)
        secure = _tls() if url[:5].lower() == "https" else None
        async with (
            asyncio.timeout(TIMEOUT_S) as limit,
            httpcore.AsyncConnectionPool(secure, network_backend=self._backend, max_keepalive_connections=0) as calls,
            calls.stream("POST", url, headers=headers, content=body, extensions={"timeout": steps}) as answer,
        ):
            limit.reschedule(asyncio.get_running_loop().time() + CONTENT_TIMEOUT_S + 1)
            await _read_some(answer)
            return answer.status


def host(url: str) -> str:
    """The header Host (RFC 9112 section 3.2): httpcore leaves out the brackets of an IPv6 address."""
    return urlsplit(url).netloc


async def _read_some(answer: httpcore.Response) -> None:
    """The answer's content says nothing to us: it is read so that its sender is not cut off, within bounds."""
    size = 0
    with suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        async with asyncio.timeout(CONTENT_TIMEOUT_S):
            async for part in answer.aiter_stream():
                size += len(part)
                if size > MAX_CONTENT_BYTES:
                    break


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The header webhook-signature."""
    signed = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed.digest()).decode()}"


@cache
def _tls() -> ssl.SSLContext:
    return httpcore.default_ssl_context()


class CheckedNetwork(AsyncNetworkBackend):
    """Connects to the addresses of a name that it has checked, all of them, and to no other."""

    def __init__(self, *, allow_private: bool, ports: Ports) -> None:
        self._allow_private = allow_private
        self._ports = ports
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """A connection to the first of the host's addresses that takes it. Raises Undelivered."""
        try:
            check_port(port, self._ports)
        except ValueError as error:
            raise Undelivered(str(error)) from None
        addresses = await _resolve(host, port)
        if not self._allow_private:
            for address in addresses:
                _require_public(host, address)
        refusal: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                refusal = error
        raise Undelivered(f"no connection to {host}, port {port}: {without_addresses(str(refusal)) or 'no answer'}")

    async def sleep(self, seconds: float) -> None:
        """As the interface has it."""
        await self._network.sleep(seconds)


async def _resolve(host: str, port: int) -> list[str]:
    """The host's addresses, each once. Raises Undelivered where it has none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Undelivered(f"the host {host} has no address: {error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _require_public(host: str, address: str) -> None:
    if not is_public(ip_address(address)):
        raise Undelivered(f"{host} leads to an address that is not public: {ONLY_PUBLIC}")
