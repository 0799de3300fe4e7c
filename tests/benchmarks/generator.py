"""Publishes at QoS 1 as fast as the broker accepts messages: `python -m tests.benchmarks.generator PORT COUNT FORM`.

It encodes all packets first, prints a line, and waits for a line on standard input. It keeps a window of packets in
flight, and ends when the broker has acknowledged all.
"""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import mqtt5
import msgspec

DEVICES = 100
ARRAY = 100
"""Readings in an array."""
LAST_PACKET_ID = 65_535
PUBACK_BYTES = 4


class Form(msgspec.Struct, frozen=True):
    """Form of the messages: the encoder by number, the messages in flight, and the messages in one write."""

    payload: Callable[[int], bytes]
    window: int = 5_000
    chunk: int = 500


def _axes(n: int) -> tuple[int, int, int]:
    """Integer and fraction of x, and y. They are distinct for a thousand million readings."""
    return n // 1000 % 1000, n % 1000, n // 1_000_000


def _numbers(message: int) -> range:
    return range(ARRAY * message, ARRAY * (message + 1))


def _device(message: int) -> int:
    return message % DEVICES + 1


_STARTED = datetime.now(UTC)


def _moment(n: int) -> bytes:
    return (_STARTED + timedelta(microseconds=n)).isoformat(timespec="microseconds").encode()


def _json(n: int) -> bytes:
    return b'{"x":%d.%03d,"y":%d,"z":-3.25}' % _axes(n)


def _json_timed(n: int) -> bytes:
    return b'{"x":%d.%03d,"y":%d,"z":-3.25,"timestamp":"%b"}' % (*_axes(n), _moment(n))


def _json_array(message: int) -> bytes:
    return b"[%b]" % b",".join(_json(n) for n in _numbers(message))


def _json_array_timed(message: int) -> bytes:
    return b"[%b]" % b",".join(_json_timed(n) for n in _numbers(message))


def _tabs(n: int) -> bytes:
    return b"%d.%03d\t%d\t-3.25" % _axes(n)


def _tabs_array(message: int) -> bytes:
    device = _device(message)
    return b"\n".join(b"%d\t%b\tnow\t%b" % (device, _moment(n), _tabs(n)) for n in _numbers(message))


FORMS = {
    "json": Form(_json),
    "tabs": Form(_tabs),
    "json-array": Form(_json_array, window=200, chunk=20),
    "json-array-timed": Form(_json_array_timed, window=200, chunk=20),
    "tabs-array": Form(_tabs_array, window=200, chunk=20),
}
"""Return columns for COPY, as the peer does not parse JSON. Its array is a hundred lines."""


@contextmanager
def generating(port: int, count: int, form: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a generator, which has encoded everything and starts with the block; it must end cleanly."""
    generator = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.generator", str(port), str(count), form],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with generator:
        assert generator.stdout is not None
        assert generator.stdin is not None
        assert generator.stdout.readline() == "encoded\n"
        generator.stdin.write("go\n")
        generator.stdin.flush()
        yield generator
    assert generator.returncode == 0, "the generator's last lines say why"


def _packets(count: int, payload: Callable[[int], bytes]) -> list[bytes]:
    return [
        mqtt5.PublishPacket(
            f"devices/{_device(n)}/stats",
            payload(n),
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=n % LAST_PACKET_ID + 1,
        ).write()
        for n in range(count)
    ]


def _publish(connection: socket.socket, encoded: list[bytes], form: Form) -> None:
    """Send all packets; wait until each is acknowledged."""
    sent = received = 0
    while received < PUBACK_BYTES * len(encoded):
        acknowledged = received // PUBACK_BYTES
        if sent < len(encoded) and sent - acknowledged < form.window:
            connection.sendall(b"".join(encoded[sent : sent + form.chunk]))
            sent = min(sent + form.chunk, len(encoded))
        else:
            some = connection.recv(65_536)
            assert some, "the broker has closed the connection"
            received += len(some)


def main(port: int, count: int, name: str) -> None:
    form = FORMS[name]
    encoded = _packets(count, form.payload)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(mqtt5.ConnectPacket("generator", clean_start=True).write())
        connection.recv(1024)
        print("encoded", flush=True)  # noqa: T201  # to who has started it
        sys.stdin.readline()
        _publish(connection, encoded, form)
        connection.sendall(mqtt5.DisconnectPacket().write())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
