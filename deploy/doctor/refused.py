"""Explanation of a refused login: a broker whose dynamic security has no clients refuses as for a wrong password."""

from pathlib import Path

from deploy.doctor.broker_connection import connected, own_client_id
from shared.broker.data_directory import CLIENTS, look
from shared.errors import BrokerError, ConnectionRefused, LocalError
from shared.settings import MqttAddress, Settings

_INIT = (
    "write it with `devicestat broker init --devices FILE`, change its owner to Mosquitto's user, and restart "
    "Mosquitto (in containers: `compose run --rm broker-file`, then `compose restart mosquitto`). Devices keep their "
    "tokens"
)


async def why_refused(settings: Settings, error: ConnectionRefused) -> str:
    """Return the text of the error; if the broker refuses the administrator as well, explain that instead."""
    if settings.mqtt_admin_url is None or not await _refuses_all(settings):
        return str(error)
    if (file := _without_clients(settings)) is not None:
        return f"the broker at {settings.broker} refuses all clients, because {file} is missing or empty: {_INIT}"
    return (
        f"the broker at {settings.broker} refuses both the user of DEVICESTAT_MQTT_URL and that of "
        "DEVICESTAT_MQTT_ADMIN_URL. Either both passwords are wrong, or the broker has no clients, for example because "
        f"its data directory was emptied before a restart. In that case: if its {CLIENTS} is not Devicestat's, move "
        f"it away; {_INIT}"
    )


async def _refuses_all(settings: Settings) -> bool:
    return await _refuses(settings.broker) and await _refuses(settings.broker_admin)


async def _refuses(address: MqttAddress) -> bool:
    try:
        async with connected(address, own_client_id()):
            return False
    except ConnectionRefused:
        return True
    except BrokerError:
        return False


def _without_clients(settings: Settings) -> Path | None:
    """Return the file of dynamic security if it is missing or empty; None otherwise, or without BROKER_DATA_DIR."""
    if settings.broker_data_dir is None:
        return None
    directory = Path(settings.broker_data_dir)
    try:
        clients = look(directory).clients
    except LocalError:
        return None
    return directory / CLIENTS if clients is None or clients.size == 0 else None
