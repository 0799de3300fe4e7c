"""Sends a broker's requests: `python -m tests.benchmarks.mqtt_load PORT NAME SECONDS`, with connections of `http_load`.

It cycles through ten thousand devices, so a repeated device has expired from the cache of the service.
"""

import sys
from collections.abc import Callable
from urllib.parse import urlencode

import msgspec
import uvloop

from shared.access.credentials import derived_token
from tests.benchmarks.http_load import Load, ask

DEVICES = range(1, 10_001)
NONCE = bytes(16)
DEVICE_SECRET = "of-the-benchmark-and-of-nothing-else"
BROKER_SECRET = "of-the-benchmark-and-of-nothing-else-too"
_HEAD = (
    "POST /mqtt/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nContent-Type: {}\r\n"
    "Content-Length: {}\r\n\r\n"
)


def token(device: int) -> str:
    """Return the token of the device."""
    return derived_token(device, NONCE, DEVICE_SECRET)


def _request(path: str, media_type: str, body: bytes) -> bytes:
    return _HEAD.format(path, BROKER_SECRET, media_type, len(body)).encode() + body


def _connect(device: int) -> bytes:
    user = f"device-{device}"
    body = msgspec.json.encode({"clientid": user, "password": token(device), "username": user})
    return _request("authenticate", "application/json", body)


def _publish(device: int) -> bytes:
    user = f"device-{device}"
    body = urlencode({"username": user, "clientid": user, "action": "2", "topic": f"devices/{device}/stats"}).encode()
    return _request("authorize", "application/x-www-form-urlencoded", body)


def _load(request: Callable[[int], bytes]) -> Load:
    return Load([request(device) for device in DEVICES], b"200", lambda answer: bool(answer["result"] == "allow"))


REQUESTS = {"authenticate": _connect, "authorize": _publish}

if __name__ == "__main__":
    port, name, seconds = sys.argv[1:]
    print(uvloop.run(ask(int(port), _load(REQUESTS[name]), float(seconds))))  # noqa: T201
