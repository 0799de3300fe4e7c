"""Publisher of messages at QoS 1, which reconnects and counts acknowledgements."""

import asyncio
from collections import deque
from collections.abc import Callable

import aiomqtt
import msgspec

from shared.backoff import backoff
from shared.broker.client import MqttClient, mqtt_client
from shared.errors import BrokerUnreachable, LocalError
from shared.settings import MqttAddress

IN_FLIGHT = 50
WAITING = 1_000
"""Waiting messages at which `put` blocks."""
QOS = 1


class SimulatedMessage(msgspec.Struct, frozen=True):
    """One PUBLISH, and its number of readings."""

    topic: str
    payload: bytes
    readings: int


class PublishCounts(msgspec.Struct):
    """Numbers of messages and readings that were put, and of those that the broker acknowledged."""

    messages: int = 0
    readings: int = 0
    acknowledged: int = 0
    sent_again: int = 0


class Publisher:
    """Publishes the messages of `put` while `run` runs. `flush` waits for the last acknowledgement.

    A message that is unacknowledged when its connection is lost is sent again.
    """

    def __init__(self, address: MqttAddress, say: Callable[[str], None]) -> None:
        self._address = address
        self._say = say
        self._waiting: asyncio.Queue[SimulatedMessage] = asyncio.Queue(WAITING)
        self._again: deque[SimulatedMessage] = deque()
        self._refused: LocalError | None = None
        self.counts = PublishCounts()

    async def put(self, message: SimulatedMessage) -> None:
        """Queue a message."""
        await self._waiting.put(message)
        self.counts.messages += 1
        self.counts.readings += message.readings

    async def flush(self) -> None:
        """Wait until all queued messages are acknowledged."""
        await self._waiting.join()

    async def run(self) -> None:
        """Connect, publish, and reconnect, until cancelled.

        Raises BrokerUnreachable if the first connection fails, LocalError if the broker refuses a message.
        """
        pauses, connected = backoff(), False
        while True:
            try:
                async with mqtt_client(self._address, "simulate", in_flight=IN_FLIGHT) as client:
                    pauses, connected = backoff(), True
                    await self._publish_over(client)
            except* aiomqtt.MqttError as errors:
                reason = str(errors.exceptions[0])
            if self._refused is not None:
                raise self._refused
            if not connected:
                raise BrokerUnreachable(
                    f"no connection to the broker at {self._address}: {reason}. "
                    "Is it running, and is DEVICESTAT_MQTT_URL right?"
                )
            self._say(f"the connection to the broker at {self._address} is lost ({reason}): reconnecting")
            await asyncio.sleep(next(pauses))

    async def _publish_over(self, client: MqttClient) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(IN_FLIGHT):
                group.create_task(self._publish_in_turn(client), name=f"publish {number}")

    async def _publish_in_turn(self, client: MqttClient) -> None:
        while True:
            message = self._again.popleft() if self._again else await self._waiting.get()
            try:
                await client.publish(message.topic, message.payload, QOS)
                self._require_taken(client, message.topic)
            except BaseException:
                self._again.append(message)
                self.counts.sent_again += 1
                raise
            self.counts.acknowledged += message.readings
            self._waiting.task_done()

    def _require_taken(self, client: MqttClient, topic: str) -> None:
        if client.refused is not None:
            self._refused = LocalError(
                f"the broker at {self._address} refuses a message to {topic} ({client.refused}): "
                "DEVICESTAT_MQTT_URL needs a user that may publish there; on a closed broker the ingestor's may not"
            )
            raise aiomqtt.MqttError("refused")
