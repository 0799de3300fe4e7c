"""Roles of the services in the tests' databases."""

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
"""Password, equal in all workers of pytest, which may share a server. The embedded server needs none."""


async def make_roles(server: str) -> None:
    """Create the roles on the server with their passwords."""
    async with await connect(server, "tests") as connection, connection.transaction():
        await connection.execute(_LOCK)
        await roles.make_roles(connection)
        await roles.set_passwords(connection, dict.fromkeys(roles.SERVICES.values(), _PASSWORD))


# Roles belong to the server. All workers of pytest lock through one database.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('devicestat'), hashtext('roles of the tests'))"


def let_roles_in(url: str) -> None:
    """Grant the roles CONNECT on a cloned database. Their other privileges are cloned."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(roles.statements("database.sql"))


def url_as(url: str, service: str) -> str:
    """Return the URL for the service's role."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{roles.SERVICES[service]}:{_PASSWORD}@{where}"))


def as_role(settings: Settings, service: str) -> Settings:
    """Return the settings with the service's role."""
    return msgspec.structs.replace(settings, database_url=url_as(settings.database, service))
