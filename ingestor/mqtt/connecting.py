"""A network connection to the broker is made: over TCP, TLS or a Unix socket."""

import asyncio
import ssl
from collections.abc import Callable

from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.packets import Delivered
from shared.broker.tls import client_context, why
from shared.errors import BrokerNotThere, BrokerUnreachable, SettingsError
from shared.settings import MqttAddress


async def connect(address: MqttAddress, deliver: Callable[[Delivered], None], within_s: float) -> NetworkConnection:
    """The connection, before any packet. Raises BrokerUnreachable; BrokerNotThere where nothing answers."""
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
    except SettingsError as error:  # of a file that is being renewed; at the start it is fatal all the same
        raise BrokerUnreachable(str(error)) from error
    except OSError as error:  # TimeoutError and ssl.SSLError are of this kind
        kind = BrokerUnreachable if isinstance(error, ssl.SSLError) else BrokerNotThere
        raise kind(
            f"no connection to the MQTT broker at {address}: {why(error)}. "
            "Is it running, and is DEVICESTAT_MQTT_URL right?"
        ) from error
    return connection
