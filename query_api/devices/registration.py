"""Register devices: all devices of a request in one transaction, or none.

1. `check`: every key is one level of a topic, unique in the request, and not reserved at the broker (`keys.py`).
2. `register` takes ids from the sequence and inserts the rows. Taken keys are found by their conflict.
3. `tokens.issue_all` creates a token, and a row of the broker's outbox, for each device.
4. `audit.record_all` adds a row to the audit log for each device.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from psycopg.rows import class_row

from query_api.devices.activity import State
from query_api.devices.keys import Keys, MqttPublishing
from query_api.devices.record import KEY_RULE, NewDevice, RegisteredDevice
from query_api.devices.tokens import IssuedToken, Tokens
from query_api.errors import Fault, displayed
from query_api.web.answers import problems
from query_api.web.answers.problems import Refused, invalid
from shared.access import audit
from shared.access.audit import Action, Actor
from shared.postgres.connections import Connection
from shared.readings.model import DEVICES_CHANNEL, is_key

MAX_DEVICES = 1_000
"""Devices of one request. They occupy the process for about 20 ms."""


class Registration(msgspec.Struct, frozen=True):
    """The devices of a request. `is_array`: the body is an array."""

    devices: Sequence[NewDevice]
    is_array: bool

    def field(self, index: int) -> str:
        """Return the path of a device's key in the body."""
        return f"[{index}].key" if self.is_array else "key"


async def check(given: Registration, keys: Keys) -> None:
    """Raise Refused if a key is malformed, repeated within the array, or reserved."""
    faults = [*_malformed_keys(given), *_repeated_keys(given)]
    if faults := faults or await _reserved_keys(given, keys):
        raise invalid(*faults)


async def _reserved_keys(given: Registration, keys: Keys) -> list[Fault]:
    found = await keys.faults({new.key for new in given.devices if new.key is not None})
    return [
        Fault(given.field(index), f"{displayed(new.key)} {found[new.key]}: choose another")
        for index, new in enumerate(given.devices)
        if new.key is not None and new.key in found
    ]


def _malformed_keys(given: Registration) -> list[Fault]:
    return [
        Fault(given.field(index), f"expected one level of a topic: {KEY_RULE}, got {displayed(new.key)}")
        for index, new in enumerate(given.devices)
        if new.key is not None and not is_key(new.key)
    ]


def _repeated_keys(given: Registration) -> list[Fault]:
    first: dict[str, int] = {}
    return [
        Fault(given.field(index), f"repeats the key of [{first[new.key]}]")
        for index, new in enumerate(given.devices)
        if new.key is not None and first.setdefault(new.key, index) != index
    ]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of devices."""

    id: int
    key: str
    name: str
    created_at: datetime


async def register(
    connection: Connection, given: Registration, keys: Keys, tokens: Tokens, actor: Actor, *, skip_taken: bool
) -> list[RegisteredDevice]:
    """Register the devices in the caller's transaction; return them in the order of the request.

    `skip_taken`: skip devices whose keys are taken. Otherwise they raise Refused.
    """
    rows = await _insert_all(connection, given, skip_taken=skip_taken)
    issued = await tokens.issue_all(connection, {row.id: row.key for row in rows})
    entries = [(f"device {row.id}", {"key": row.key, "name": row.name}) for row in rows]
    await audit.record_all(connection, actor, Action.DEVICE_CREATED, entries)
    return [_registered(row, token, keys.publishing(row.key)) for row, token in zip(rows, issued, strict=True)]


def _registered(row: Row, issued: IssuedToken, mqtt: MqttPublishing) -> RegisteredDevice:
    return RegisteredDevice(
        id=row.id,
        key=row.key,
        name=row.name,
        created_at=row.created_at,
        readings=0,
        readings_is_estimate=False,
        readings_at_least=False,
        first_reading_at=None,
        last_reading_at=None,
        latest_reading=None,
        state=State.NEVER,
        expected_interval=None,
        rate=0.0,
        token=issued.token,
        mqtt_username=issued.mqtt_username,
        mqtt=mqtt,
    )


async def _insert_all(connection: Connection, given: Registration, *, skip_taken: bool) -> list[Row]:
    """Insert devices with a key, then devices without one. The key of the latter is the first id that is free."""
    keyed = {index: new for index, new in enumerate(given.devices) if new.key is not None}
    found = await _insert(connection, keyed)
    taken = [index for index in keyed if index not in found]
    if taken and not skip_taken:
        raise _taken(given, taken)
    keyless = {index: new for index, new in enumerate(given.devices) if new.key is None}
    while keyless:
        inserted = await _insert(connection, keyless)
        found |= inserted
        keyless = {index: new for index, new in keyless.items() if index not in inserted}
    return [found[index] for index in sorted(found)]


# In the order of the keys, so that two requests with equal keys cannot deadlock.
_INSERT = """
    WITH given AS (
        SELECT * FROM unnest(%(ids)s::bigint[], %(keys)s::text[], %(names)s::text[]) AS given (id, key, name)
    ), registered AS (
        INSERT INTO devices (id, key, name) SELECT id, key, name FROM given ORDER BY key
        ON CONFLICT (key) DO NOTHING
        RETURNING id, key, name, created_at
    )
    SELECT id, key, name, created_at FROM registered, pg_notify(%(channel)s, key)
"""
_NEW_IDS = "SELECT nextval(pg_get_serial_sequence('devices', 'id')) FROM generate_series(1, %s)"


async def _insert(connection: Connection, new: dict[int, NewDevice]) -> dict[int, Row]:
    """Insert the devices whose keys are free. Return them by their index in the request."""
    if not new:
        return {}
    ids = [row[0] for row in await (await connection.execute(_NEW_IDS, (len(new),))).fetchall()]
    places = dict(zip(ids, new, strict=True))
    keys = [str(device_id) if one.key is None else one.key for device_id, one in zip(ids, new.values(), strict=True)]
    names = [one.name for one in new.values()]
    async with connection.cursor(row_factory=class_row(Row)) as cursor:
        await cursor.execute(_INSERT, {"ids": ids, "keys": keys, "names": names, "channel": DEVICES_CHANNEL})
        return {places[row.id]: row for row in await cursor.fetchall()}


def _taken(given: Registration, taken: Sequence[int]) -> Refused:
    first = given.devices[taken[0]].key
    others = f", and {len(taken) - 1} more keys are taken" if len(taken) > 1 else ""
    advice = "choose another, or omit it to use the id"
    if given.is_array:
        advice = "nothing was registered; existing=skip skips devices whose keys are taken"
    return Refused(
        problems.KEY_TAKEN,
        f"another device has the key {first!r}{others}: {advice}",
        [Fault(given.field(index), "is taken") for index in taken],
    )
