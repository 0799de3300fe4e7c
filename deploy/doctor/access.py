"""Checks of access to the API and the broker, where the settings require authentication."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec
from psycopg import Error as PostgresError
from psycopg.errors import InsufficientPrivilege

from deploy.doctor.broker_connection import connected, own_client_id
from deploy.doctor.findings import not_allowed
from deploy.doctor.refused import why_refused
from query_api.access.keyring import has_administrator
from shared.broker.dynamic_security.administration import administering
from shared.broker.dynamic_security.sync import compare
from shared.broker.outbox import by_file
from shared.broker.password_file import Unfit
from shared.errors import BrokerError, ConnectionRefused, DatabaseUnreachable, DevicestatError
from shared.postgres.connections import Connection, connect
from shared.postgres.errors import diagnose
from shared.settings import MqttAddress, Settings
from shared.status.findings import Finding, Severity
from shared.status.words import ago, counted, printable

_NO_KEY = "AUTH is on, and there is no admin key: create one with `devicestat keys create --role admin`"
LATE = timedelta(seconds=10)
"""Age at which a change in the outbox is late."""


async def examine_access(settings: Settings) -> list[Finding]:
    """Check for an admin key, compare the broker's users with the database, and check the outbox."""
    if not settings.tells_broker and settings.auth == "off":
        return []
    try:
        async with await connect(settings.database, "doctor") as connection:
            return [*await _keys(connection, settings), *await _broker(connection, settings)]
    except DatabaseUnreachable:
        return []  # the database's own finding
    except InsufficientPrivilege as error:
        return [not_allowed("access", error)]
    except ConnectionRefused as error:
        return [Finding(Severity.WRONG, "access", await why_refused(settings, error))]
    except PostgresError as error:
        return [Finding(Severity.WRONG, "access", str(diagnose(error)))]
    except DevicestatError as error:
        return [Finding(Severity.WRONG, "access", str(error).strip().splitlines()[0])]


async def _keys(connection: Connection, settings: Settings) -> list[Finding]:
    if settings.auth == "off" or await has_administrator(connection):
        return []
    return [Finding(Severity.WARNING, "keys", _NO_KEY)]


async def _broker(connection: Connection, settings: Settings) -> list[Finding]:
    if not settings.tells_broker:
        return []
    return [
        *await _differences(connection, settings),
        *await _waiting(connection),
        *await _anonymous(settings.broker),
    ]


async def _differences(connection: Connection, settings: Settings) -> list[Finding]:
    if settings.broker_passwords is not None:
        return await _of_password_file(connection, settings, settings.broker_passwords)
    async with administering(settings.broker_admin) as dynsec:
        comparison = await compare(connection, dynsec, settings)
    if comparison.count == 0:
        text = f"dynamic security of the broker at {settings.broker_admin} agrees with the database"
        return [Finding(Severity.OK, "access", text)]
    text = (
        f"dynamic security of the broker at {settings.broker_admin} differs from the database in "
        f"{counted(comparison.count, 'client')}, role or device: `devicestat broker sync --dry-run` shows them, "
        "`devicestat broker sync` repairs them"
    )
    return [Finding(Severity.WRONG, "access", text)]


async def _of_password_file(connection: Connection, settings: Settings, path: str) -> list[Finding]:
    found = await by_file(settings).compare(connection)
    unfit = _unfit(found.unfit)
    if not found.differing:
        return [Finding(Severity.OK, "access", f"the broker's password file {path} agrees with the database"), *unfit]
    text = (
        f"the broker's password file {path} differs from the database in {counted(len(found.differing), 'device')}: "
        "`devicestat broker sync --dry-run` shows them, `devicestat broker sync` repairs them"
    )
    return [Finding(Severity.WRONG, "access", text), *unfit]


def _unfit(unfit: Sequence[Unfit]) -> list[Finding]:
    if not unfit:
        return []
    others = f", and {len(unfit) - 1:,} more" if len(unfit) > 1 else ""
    advice = "register these devices with other keys; `devicestat broker sync --dry-run` lists them"
    text = f"{counted(len(unfit), 'device')} cannot connect: {printable(str(unfit[0]))}{others}: {advice}"
    return [Finding(Severity.WARNING, "keys of devices", text)]


_OLDEST = "SELECT count(*), now() - min(queued_at) FROM broker_outbox"


async def _waiting(connection: Connection) -> list[Finding]:
    row = await (await connection.execute(_OLDEST)).fetchone()
    assert row is not None, "an aggregate has one row"
    count, age = row
    if count == 0:
        return [Finding(Severity.OK, "outbox", "all changes of devices are applied to the broker")]
    text = f"{counted(count, 'change')} of devices not applied to the broker yet, the oldest {ago(age)}"
    if age < LATE:
        return [Finding(Severity.OK, "outbox", text)]
    advice = "run `devicestat serve` or `devicestat work` with the same settings"
    return [Finding(Severity.WARNING, "outbox", f"{text}: {advice}")]


async def _anonymous(address: MqttAddress) -> list[Finding]:
    nobody = msgspec.structs.replace(address, username=None, password=None)
    try:
        async with connected(nobody, own_client_id()):
            text = "the broker accepts clients without a password: set allow_anonymous false in its configuration"
            return [Finding(Severity.WRONG, "access", text)]
    except ConnectionRefused:
        return []
    except BrokerError as error:
        return [Finding(Severity.WRONG, "access", str(error))]
