"""Publishes at QoS 1 as fast as the broker takes it: `python -m tests.benchmarks.generator PORT COUNT FORM`.

All packets are encoded first; then it says so, and waits for a line on standard input. A window of packets is
unacknowledged at any time. It ends when the broker has acknowledged them all.
"""

import socket
import sys

import mqtt5

WINDOW = 5_000
CHUNK = 500
DEVICES = 100
LAST_PACKET_ID = 65_535
PUBACK_BYTES = 4
FORMS = {"json": b'{"x":%d.%03d,"y":%d,"z":-3.25}', "tabs": b"%d.%03d\t%d\t-3.25"}
"""The peer gets its columns ready to COPY: it need not know JSON."""


def packets(count: int, form: bytes) -> list[bytes]:
    """So many PUBLISH packets, to a hundred devices in turn, each with other values."""
    return [
        mqtt5.PublishPacket(
            f"devices/{n % DEVICES + 1}/stats",
            form % (n // 1000 % 1000, n % 1000, n // 1_000_000),
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=n % LAST_PACKET_ID + 1,
        ).write()
        for n in range(count)
    ]


def publish(connection: socket.socket, encoded: list[bytes]) -> None:
    """Sends them all, and returns when each is acknowledged."""
    sent = received = 0
    while received < PUBACK_BYTES * len(encoded):
        acknowledged = received // PUBACK_BYTES
        if sent < len(encoded) and sent - acknowledged < WINDOW:
            connection.sendall(b"".join(encoded[sent : sent + CHUNK]))
            sent = min(sent + CHUNK, len(encoded))
        else:
            received += len(connection.recv(65_536))


def main(port: int, count: int, form: str) -> None:
    encoded = packets(count, FORMS[form])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(mqtt5.ConnectPacket("generator", clean_start=True).write())
        connection.recv(1024)
        print("encoded", flush=True)  # noqa: T201  # to who has started it
        sys.stdin.readline()
        publish(connection, encoded)
        connection.sendall(mqtt5.DisconnectPacket().write())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
