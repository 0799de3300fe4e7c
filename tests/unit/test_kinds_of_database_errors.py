"""Each failure of PostgreSQL or the driver becomes the right kind of error."""

import psycopg
import pytest
from psycopg.errors import TransactionTimeout

from shared.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseNotReady,
    DatabaseReadOnly,
    DatabaseUnreachable,
    Deadlock,
    DiskFull,
    LockTimedOut,
    LoginRefused,
    OutOfMemory,
    OutOfResources,
    PoolExhausted,
    QueryCutOff,
    ServerFault,
    StatementRefused,
    TooManyConnections,
)
from shared.postgres.connections import translated
from shared.postgres.errors import diagnose, diagnose_connecting, kind_of

SQLSTATES: dict[str, type[DatabaseError]] = {
    "08000": DatabaseUnreachable,
    "08006": DatabaseUnreachable,
    "08P01": DatabaseUnreachable,
    "22P02": StatementRefused,
    "25006": DatabaseReadOnly,
    "25P02": ServerFault,
    "25P03": DatabaseUnreachable,
    "25P04": DatabaseUnreachable,
    "28000": LoginRefused,
    "28P01": LoginRefused,
    "3D000": LoginRefused,
    "40001": Deadlock,
    "40P01": Deadlock,
    "42501": StatementRefused,
    "42P01": StatementRefused,
    "53000": OutOfResources,
    "53100": DiskFull,
    "53200": OutOfMemory,
    "53300": TooManyConnections,
    "53400": OutOfResources,
    "54000": StatementRefused,
    "55006": StatementRefused,
    "55P03": LockTimedOut,
    "57014": QueryCutOff,
    "57P01": DatabaseUnreachable,
    "57P02": DatabaseUnreachable,
    "57P03": DatabaseNotReady,
    "57P04": LoginRefused,
    "57P05": DatabaseUnreachable,
    "58030": ServerFault,
    "F0001": ServerFault,
    "XX001": ServerFault,
}


@pytest.mark.parametrize(("sqlstate", "kind"), SQLSTATES.items())
def test_a_sqlstate_has_a_kind(sqlstate: str, kind: type[DatabaseError]) -> None:
    assert kind_of(sqlstate) is kind
    error = diagnose(psycopg.errors.lookup(sqlstate)("words"))
    assert (type(error), error.sqlstate) == (kind, sqlstate)
    assert "words" in str(error)


def test_a_connection_that_a_time_limit_ends_while_it_is_prepared_is_lost() -> None:
    """transaction_timeout of the database: on a busy machine the API answered 500."""
    with pytest.raises(DatabaseUnreachable), translated("postgresql://localhost/devicestat"):
        raise TransactionTimeout("terminating connection due to transaction timeout")


_AT = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '
CONNECTIONS: dict[str, type[DatabaseError]] = {
    _AT + "Connection refused\n\tIs the server running on that host?": DatabaseUnreachable,
    _AT + "timeout expired": DatabaseUnreachable,
    "connection timeout expired": DatabaseUnreachable,
    _AT + "FATAL:  the database system is starting up": DatabaseNotReady,
    _AT + "FATAL:  the database system is shutting down": DatabaseNotReady,
    _AT + "FATAL:  the database system is in recovery mode": DatabaseNotReady,
    _AT + "FATAL:  the database system is not yet accepting connections\nDETAIL:  x": DatabaseNotReady,
    _AT + "FATAL:  sorry, too many clients already": TooManyConnections,
    _AT + 'FATAL:  too many connections for role "a"': TooManyConnections,
    _AT + "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute": TooManyConnections,
    _AT + 'FATAL:  password authentication failed for user "a"': LoginRefused,
    _AT + 'FATAL:  role "a" does not exist': LoginRefused,
    _AT + 'FATAL:  database "a" does not exist': LoginRefused,
    _AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "a"': LoginRefused,
    _AT + "fe_sendauth: no password supplied": LoginRefused,
    _AT + "FATAL:  das Datenbanksystem startet": DatabaseUnreachable,
    'connection failed: could not translate host name "a" to address: host does not exist': DatabaseUnreachable,
}


@pytest.mark.parametrize(("text", "kind"), CONNECTIONS.items())
def test_a_connection_that_fails_has_a_kind(text: str, kind: type[DatabaseError]) -> None:
    error = diagnose_connecting(psycopg.OperationalError(text), "127.0.0.1:5432/d")
    assert type(error) is kind
    assert str(error).startswith("no connection to PostgreSQL at 127.0.0.1:5432/d: ")
    asks = "DEVICESTAT_DATABASE_URL right?" in str(error)
    assert asks == (kind in {LoginRefused, DatabaseUnreachable}), "what passes by itself is no fault of the URL"


def test_what_passes_by_itself() -> None:
    for passes in (DatabaseUnreachable, DatabaseNotReady, TooManyConnections, PoolExhausted, Deadlock, DiskFull):
        assert passes.passes
    for lasts in (LoginRefused, StatementRefused, ServerFault):
        assert not lasts.passes
    assert issubclass(QueryCutOff, DatabaseBusy)


def test_an_error_of_ours_stays_what_it_is() -> None:
    error = PoolExhausted("all 3 connections are in use")
    assert diagnose(error) is error
    assert diagnose_connecting(error, "here") is error
