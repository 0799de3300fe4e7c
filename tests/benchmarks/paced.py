"""A publisher at a steady rate, which records the time of each message."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import mqtt5

TOPIC = "devices/1/stats"
_LAST_PACKET_ID = 65_535


class Publisher:
    """A connection to the broker. `published`: times of the run's messages, in seconds of time.monotonic."""

    def __init__(self, connection: socket.socket, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self.published: list[float] = []

    @contextmanager
    def run(self, payloads: list[bytes], rate: float) -> Iterator[None]:
        """Publish during the block, 1/rate s apart, independently of the load of the machine."""
        self.published = []
        encoded = [
            mqtt5.PublishPacket(
                self._topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=n % _LAST_PACKET_ID + 1
            ).write()
            for n, payload in enumerate(payloads)
        ]
        thread = threading.Thread(target=self._publish, args=(encoded, rate), name="publisher")
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _publish(self, encoded: list[bytes], rate: float) -> None:
        began = time.monotonic()
        for n, packet in enumerate(encoded):
            time.sleep(max(0.0, began + n / rate - time.monotonic()))
            self.published.append(time.monotonic())
            self._connection.sendall(packet)
            self._drop_acknowledgements()

    def _drop_acknowledgements(self) -> None:
        try:
            while self._connection.recv(65_536, socket.MSG_DONTWAIT):
                pass
        except BlockingIOError:
            return
        raise AssertionError("the broker has closed the connection")


@contextmanager
def publisher(host: str, port: int, topic: str = TOPIC) -> Iterator[Publisher]:
    """Connect a publisher for the topic, with the topic as its client id."""
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(mqtt5.ConnectPacket(topic, clean_start=True).write())
        connection.recv(1024)
        yield Publisher(connection, topic)
        connection.sendall(mqtt5.DisconnectPacket().write())
