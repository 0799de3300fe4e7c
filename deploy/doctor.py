"""`devicestat doctor`: whether settings, database, schema and broker are as the services need them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum

import aiomqtt
import msgspec
from psycopg import Error as PostgresError

from deploy.mqtt_client import mqtt_client
from shared.database import Connection, address, connect, translated
from shared.errors import DevicestatError
from shared.migrate import check_schema, migrations
from shared.settings import Settings, parse_topic_filter

OLDEST_POSTGRES = 150_000
"""PostgreSQL 15, as server_version_num has it."""
SYS_WAIT_S = 1.0
"""How long the broker's own figures are waited for; a broker need not have any."""
_VERSION = "$SYS/broker/version"
_DROPPED = "$SYS/broker/publish/messages/dropped"


class State(StrEnum):
    """How a finding is shown; only `wrong` makes the doctor's exit code 1."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, how it is and, if it is not as it should be, how to mend it."""

    state: State
    what: str
    text: str


def report(what: str, state: State, texts: Iterable[str]) -> str:
    """The lines of a finding."""
    return "\n".join(f"{state:<8} {what:<15} {text}" for text in texts)


async def examine(settings: Settings) -> list[Finding]:
    """All findings; the database and the broker are looked at independently of each other."""
    return [*await _database(settings), *await _broker(settings)]


async def _database(settings: Settings) -> list[Finding]:
    url = settings.database
    try:
        with translated(url):
            async with await connect(url, "doctor") as connection:
                return [
                    _server(connection, settings),
                    *await _durability(connection),
                    await _guarded("schema", _schema, connection),
                    await _guarded("partitions", _partitions, connection),
                ]
    except DevicestatError as error:
        return [Finding(State.WRONG, "database", str(error))]


_Check = Callable[[Connection], Awaitable[Finding]]


async def _guarded(what: str, check: _Check, connection: Connection) -> Finding:
    try:
        return await check(connection)
    except (DevicestatError, PostgresError) as error:
        return Finding(State.WRONG, what, str(error).strip().splitlines()[0])


def _server(connection: Connection, settings: Settings) -> Finding:
    version = connection.info.server_version
    shown = f"PostgreSQL {version // 10_000}.{version % 10_000} at {address(settings.database)}"
    if version < OLDEST_POSTGRES:
        return Finding(State.WRONG, "database", f"{shown}: devicestat needs 15 or later")
    return Finding(State.OK, "database", shown)


async def _durability(connection: Connection) -> list[Finding]:
    row = await (await connection.execute("SHOW synchronous_commit")).fetchone()
    if row != ("off",):
        return []
    advice = "readings that devices have had acknowledged are lost if the server crashes: set it to on"
    return [Finding(State.WARNING, "durability", f"synchronous_commit is off, so {advice}")]


async def _schema(connection: Connection) -> Finding:
    await check_schema(connection)
    return Finding(State.OK, "schema", f"version {migrations()[-1].version}, which this devicestat needs")


_MISSING_MONTHS = """
    SELECT to_char(month, 'YYYY-MM')
    FROM unnest(ARRAY[now(), now() + interval '1 month']) AS month
    WHERE to_regclass('readings_' || to_char(month, 'YYYY_MM')) IS NULL
"""


async def _partitions(connection: Connection) -> Finding:
    missing = [row[0] for row in await (await connection.execute(_MISSING_MONTHS)).fetchall()]
    if missing:
        advice = "run `devicestat migrate`, and keep a worker running, which makes them ahead"
        return Finding(State.WRONG, "partitions", f"none for {' and '.join(missing)}: {advice}")
    return Finding(State.OK, "partitions", "this month's and the next one's are there")


async def _broker(settings: Settings) -> list[Finding]:
    try:
        async with mqtt_client(settings.broker, "doctor") as client:
            figures = await _own_figures(client)
            subscription = await _subscription(client, settings)
    except aiomqtt.MqttError as error:
        advice = "is it running, does it speak MQTT 5, and is DEVICESTAT_MQTT_URL right?"
        return [Finding(State.WRONG, "broker", f"no session at {settings.broker} ({error}): {advice}")]
    version = figures.get(_VERSION, "MQTT 5")
    connected = Finding(State.OK, "broker", f"{version} at {settings.broker}")
    return [connected, subscription, *_dropped(figures.get(_DROPPED))]


async def _own_figures(client: aiomqtt.Client) -> dict[str, str]:
    """What the broker publishes of itself; empty where it doesn't, or not to us."""
    figures: dict[str, str] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SYS_WAIT_S):
            await client.subscribe([(_VERSION, 0), (_DROPPED, 0)])
            async for message in client.messages:
                figures[message.topic.value] = bytes(message.payload).decode(errors="replace")
                if len(figures) == 2:
                    break
    return figures


async def _subscription(client: aiomqtt.Client, settings: Settings) -> Finding:
    # Not the shared form: a share of the messages would come here, and be lost to the ingestors.
    form = parse_topic_filter(settings.mqtt_topic)
    topic = f"{form.prefix}+{form.suffix}"
    granted = (await client.subscribe(topic, qos=1))[0]
    code = granted if isinstance(granted, int) else granted.value
    if code == 1:
        return Finding(State.OK, "subscription", f"{topic} at QoS 1")
    if code == 0:
        text = f"the broker grants {topic} at QoS 0 only: allow QoS 1, or readings can be lost"
    else:
        text = f"the broker refuses {topic} ({granted}): allow it in the broker's access control"
    return Finding(State.WRONG, "subscription", text)


def _dropped(count: str | None) -> list[Finding]:
    """A broker's limits can't be asked for, but what it dropped because of them can."""
    if count is None or count == "0":
        return []
    advice = "raise max_queued_messages and max_queued_bytes, as in mosquitto.conf"
    text = f"the broker has dropped messages for one of its clients since it started ({count}): {advice}"
    return [Finding(State.WARNING, "queue", text)]
