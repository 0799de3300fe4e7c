"""The services' own roles in the tests' databases."""

import hashlib
import os
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psycopg

from shared.postgres import roles
from shared.postgres.connections import connect
from shared.settings import Settings

_SERVER = os.environ.get("DEVICESTAT_TEST_DATABASE_URL", "")
_PASSWORD = hashlib.sha256(f"roles of the tests on {_SERVER}".encode()).hexdigest()
"""The same in each of pytest's workers, which share that server; one of our own asks for none."""


async def make_roles(server: str) -> None:
    """Makes the roles on the server, and gives them their passwords."""
    async with await connect(server, "tests") as connection, connection.transaction():
        await connection.execute(_LOCK)
        await roles.make_roles(connection)
        await roles.set_passwords(connection, dict.fromkeys(roles.SERVICES.values(), _PASSWORD))


# Of the whole server: pytest's workers come through one database.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('devicestat'), hashtext('roles of the tests'))"


def let_roles_in(url: str) -> None:
    """Lets the roles into a clone of a database that has them: what else they may do was cloned."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(roles.statements("database.sql"))


def url_as(url: str, service: str) -> str:
    """The URL for the service's role."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{roles.SERVICES[service]}:{_PASSWORD}@{where}"))


def as_role(settings: Settings, service: str) -> Settings:
    """The settings for the service, with its role."""
    return msgspec.structs.replace(settings, database_url=url_as(settings.database, service))
