"""An aiomqtt client, for what is not hot: the administration of the broker, and simulated devices.

The ingestor has a session of its own, the doctor a connection of its own.
"""

import asyncio
import contextlib
import uuid
from typing import Any, Self

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from shared.broker.tls import client_context
from shared.settings import MqttAddress

TIMEOUT_S = 10.0
_NO_MATCHING_SUBSCRIBERS = 0x10
_ANY_PORT = 1
"""A Unix socket has none, but paho refuses 0 all the same."""


class MqttClient(aiomqtt.Client):
    """Knows when the broker refuses what is published, and leaves nothing open where connecting is cancelled."""

    refused: ReasonCode | None = None
    """Why a message that was published over it was refused; aiomqtt takes every PUBACK for a success."""
    unmatched = False
    """Whether a broker that says so had no subscriber for a message (PUBACK 0x10, no matching subscribers)."""

    async def __aenter__(self) -> Self:
        # The thread that connects goes on, and must be waited for.
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
    """A client with a session and a client id of its own, so that it never takes over another's."""
    client = MqttClient(
        address.unix_socket or address.host,
        address.port or _ANY_PORT,
        transport="unix" if address.unix_socket else "tcp",
        username=address.username,
        password=address.password,
        tls_context=client_context(address.files) if address.tls else None,
        identifier=f"devicestat-{purpose}-{uuid.uuid4().hex[:12]}",
        protocol=aiomqtt.ProtocolVersion.V5,
        max_inflight_messages=in_flight,
        timeout=TIMEOUT_S,
    )
    client.pending_calls_threshold = in_flight  # beyond it aiomqtt warns; so many are what we want
    return client
