"""Why the broker refuses our users: one whose dynamic security knows no clients looks like a wrong password."""

from pathlib import Path

from deploy.doctor.broker_connection import connected, own_client_id
from shared.broker.data_directory import CLIENTS, look
from shared.errors import BrokerError, ConnectionRefused, LocalError
from shared.settings import MqttAddress, Settings

_INIT = (
    "write it with `devicestat broker init --devices FILE`, give it to the user that Mosquitto runs as, and restart "
    "Mosquitto (in containers: `compose run --rm broker-file`, then `compose restart mosquitto`). Devices keep their "
    "tokens"
)


async def why_refused(settings: Settings, error: ConnectionRefused) -> str:
    """The error's text; where the broker refuses the ingestor and the administrator alike, what that means."""
    if settings.mqtt_admin_url is None or not await _refuses_all(settings):
        return str(error)
    if (file := _without_clients(settings)) is not None:
        return f"the broker at {settings.broker} refuses everyone, since {file} is missing or empty: {_INIT}"
    return (
        f"the broker at {settings.broker} refuses both the user of DEVICESTAT_MQTT_URL and that of "
        "DEVICESTAT_MQTT_ADMIN_URL. Either both passwords are wrong, or the broker knows no clients, as when its data "
        f"directory was emptied and Mosquitto restarted. For the latter: if its {CLIENTS} is not ours any more, move "
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
    """The file of dynamic security, if it is seen to hold nothing."""
    if settings.broker_data_dir is None:
        return None
    directory = Path(settings.broker_data_dir)
    try:
        clients = look(directory).clients
    except LocalError:
        return None
    return directory / CLIENTS if clients is None or clients.size == 0 else None
