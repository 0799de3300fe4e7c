"""Publishes messages at QoS 1, over as many connections as it takes, and counts what became of them."""

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
"""Once so many messages wait for a connection, `put` waits too."""
QOS = 1


class SimulatedMessage(msgspec.Struct, frozen=True):
    """One PUBLISH, and how many readings are in it."""

    topic: str
    payload: bytes
    readings: int


class PublishCounts(msgspec.Struct):
    """What was given to be sent, and what the broker has acknowledged."""

    messages: int = 0
    readings: int = 0
    acknowledged: int = 0
    sent_again: int = 0


class Publisher:
    """`run` publishes what `put` takes, until it is cancelled; `flush` waits for the last acknowledgement.

    A message whose acknowledgement a lost connection has swallowed is sent again.
    """

    def __init__(self, address: MqttAddress, say: Callable[[str], None]) -> None:
        self._address = address
        self._say = say
        self._waiting: asyncio.Queue[SimulatedMessage] = asyncio.Queue(WAITING)
        self._again: deque[SimulatedMessage] = deque()
        self._refused: LocalError | None = None
        self.counts = PublishCounts()

    async def put(self, message: SimulatedMessage) -> None:
        """Takes a message to be sent."""
        await self._waiting.put(message)
        self.counts.messages += 1
        self.counts.readings += message.readings

    async def flush(self) -> None:
        """Returns when everything that was put is acknowledged."""
        await self._waiting.join()

    async def run(self) -> None:
        """Connects, and connects again.

        Raises BrokerUnreachable if the first connection fails, LocalError if the broker refuses what is published.
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
            self._say(f"the connection to the broker at {self._address} is lost ({reason}): connecting again")
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
                f"the broker at {self._address} refuses what is published to {topic} ({client.refused}): "
                "DEVICESTAT_MQTT_URL needs a user that may publish there; on a closed broker the ingestor's may not"
            )
            raise aiomqtt.MqttError("refused")
