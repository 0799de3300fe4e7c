"""How a connection to the broker has ended, as the error that says so."""

import asyncio

from mqtt5 import DisconnectReasonCode

from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.publish import MalformedPacket
from ingestor.mqtt.reasons import describe
from shared.broker.tls import why
from shared.errors import BrokerUnreachable, ConnectionClosed
from shared.settings import MqttAddress


async def why_ended(connection: NetworkConnection, address: MqttAddress) -> BrokerUnreachable:
    """Wait for the connection's end, and return the error."""
    try:
        farewell = await asyncio.shield(connection.closed)
    except OSError as error:
        return BrokerUnreachable(f"the connection to the MQTT broker at {address} broke: {why(error)}")
    except MalformedPacket as error:
        return BrokerUnreachable(f"the MQTT broker at {address} sent a malformed packet: {error}")
    was_accepted = connection.connack.done() and not connection.connack.cancelled()
    if farewell is None:
        return ConnectionClosed(f"the MQTT broker at {address} closed the connection", was_accepted=was_accepted)
    return ConnectionClosed(
        f"the MQTT broker at {address} disconnected us: {describe(farewell)}",
        was_accepted=was_accepted,
        taken_over=farewell.reason_code == DisconnectReasonCode.SESSION_TAKEN_OVER,
    )
