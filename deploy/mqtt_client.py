"""An aiomqtt client for what is not the ingestor: simulated devices, and the doctor's probe."""

import ssl
import uuid

import aiomqtt

from shared.settings import MqttAddress

TIMEOUT_S = 10.0


def mqtt_client(address: MqttAddress, purpose: str, *, in_flight: int = 20) -> aiomqtt.Client:
    """A client with a session and a client id of its own, so that it never takes over another's."""
    client = aiomqtt.Client(
        address.unix_socket or address.host,
        address.port,
        transport="unix" if address.unix_socket else "tcp",
        username=address.username,
        password=address.password,
        tls_context=ssl.create_default_context() if address.tls else None,
        identifier=f"devicestat-{purpose}-{uuid.uuid4().hex[:12]}",
        protocol=aiomqtt.ProtocolVersion.V5,
        max_inflight_messages=in_flight,
        timeout=TIMEOUT_S,
    )
    client.pending_calls_threshold = in_flight  # beyond it aiomqtt warns; so many are what we want
    return client
