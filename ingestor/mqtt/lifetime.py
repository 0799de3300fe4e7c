"""The lifetime of a network connection: opening it, keeping it alive, and the reason for its end."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from mqtt5 import DisconnectReasonCode

from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.packets import Delivered
from ingestor.mqtt.publish import MalformedPacket
from ingestor.mqtt.reasons import describe
from shared.broker.tls import client_context, why
from shared.errors import BrokerNotThere, BrokerUnreachable, ConnectionClosed, SettingsError
from shared.settings import MqttAddress


async def connect(address: MqttAddress, deliver: Callable[[Delivered], None], within_s: float) -> NetworkConnection:
    """Open a connection. Raises BrokerUnreachable; BrokerNotThere if no server answers at the address."""
    loop = asyncio.get_running_loop()

    def protocol() -> NetworkConnection:
        return NetworkConnection(deliver)

    try:
        async with asyncio.timeout(within_s):
            if address.unix_socket:
                _, connection = await loop.create_unix_connection(protocol, address.unix_socket)
            else:
                tls = client_context(address.files) if address.tls else None
                _, connection = await loop.create_connection(protocol, address.host, address.port, ssl=tls)
    except SettingsError as error:  # a certificate may be in the middle of its renewal; at startup it is fatal
        raise BrokerUnreachable(str(error)) from error
    except OSError as error:  # includes TimeoutError and ssl.SSLError
        kind = BrokerUnreachable if isinstance(error, ssl.SSLError) else BrokerNotThere
        raise kind(
            f"no connection to the MQTT broker at {address}: {why(error)}. "
            "Is it running, and is DEVICESTAT_MQTT_URL right?"
        ) from error
    return connection


def keep_alive(connection: NetworkConnection, seconds: int) -> None:
    """Keep the connection alive until it ends. `seconds`: the Keep Alive of the connection."""
    run_until_closed(connection, _keep_alive(connection, seconds), "mqtt keep-alive")


def run_until_closed(connection: NetworkConnection, work: Coroutine[Any, Any, None], name: str) -> None:
    """Start a task that the end of the connection cancels; an error of the task ends the connection."""
    task = asyncio.create_task(work, name=name)
    connection.closed.add_done_callback(lambda _: task.cancel())

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            connection.abort(error)

    task.add_done_callback(ended)


async def _keep_alive(connection: NetworkConnection, seconds: int) -> None:
    """Send PINGREQ, also while reading is paused; abort the connection if the broker is silent while it is not."""
    while True:
        await asyncio.sleep(seconds / 2)
        silent = silent_s(connection)
        if silent > 1.5 * seconds and not connection.is_paused:
            connection.abort(TimeoutError(f"no packet for {silent:.0f} s"))
        connection.ping()


def silent_s(connection: NetworkConnection) -> float:
    """Return the time since the last bytes arrived, in seconds."""
    return asyncio.get_running_loop().time() - connection.received_at


async def why_ended(connection: NetworkConnection, address: MqttAddress) -> BrokerUnreachable:
    """Wait for the end of the connection, and return its reason as an error."""
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
        f"the MQTT broker at {address} disconnected the ingestor: {describe(farewell)}",
        was_accepted=was_accepted,
        taken_over=farewell.reason_code == DisconnectReasonCode.SESSION_TAKEN_OVER,
    )
