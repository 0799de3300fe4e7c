"""MQTT client for administration of the broker, the probe and simulated devices.

The ingestor and the doctor do not use it: they have MQTT connections of their own.
"""

import asyncio
import contextlib
from typing import Any, Self

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from shared.broker.names import new_client_id
from shared.broker.tls import client_context
from shared.settings import MqttAddress

TIMEOUT_S = 10.0
_NO_MATCHING_SUBSCRIBERS = 0x10
_ANY_PORT = 1
"""Port for a Unix socket, which has none: paho refuses 0."""


class MqttClient(aiomqtt.Client):
    """aiomqtt client that reports refused messages, and closes the connection if connecting is cancelled."""

    refused: ReasonCode | None = None
    """Reason code of the last refused message. aiomqtt treats every PUBACK as a success."""
    unmatched = False
    """Whether the broker answered a message with PUBACK 0x10, no matching subscribers."""

    async def __aenter__(self) -> Self:
        # Connecting runs in a thread, which cannot be cancelled: wait for it.
        connecting = asyncio.create_task(super().__aenter__(), name="connect to the broker")
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            with contextlib.suppress(aiomqtt.MqttError):
                await connecting
                await self.__aexit__(None, None, None)
            raise

    def _on_publish(
        self, client: PahoClient, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        if reason_code.is_failure:
            self.refused = reason_code
        self.unmatched |= reason_code.value == _NO_MATCHING_SUBSCRIBERS
        super()._on_publish(client, userdata, mid, reason_code, properties)


def mqtt_client(address: MqttAddress, purpose: str, *, in_flight: int = 20) -> MqttClient:
    """Return a client with a random client id, so that it never takes over another session."""
    client = MqttClient(
        address.unix_socket or address.host,
        address.port or _ANY_PORT,
        transport="unix" if address.unix_socket else "tcp",
        username=address.username,
        password=address.password,
        tls_context=client_context(address.files) if address.tls else None,
        identifier=new_client_id(purpose),
        protocol=aiomqtt.ProtocolVersion.V5,
        max_inflight_messages=in_flight,
        timeout=TIMEOUT_S,
    )
    client.pending_calls_threshold = in_flight  # aiomqtt warns above it
    return client
