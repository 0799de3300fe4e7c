"""Translation of psycopg's errors into those of `shared.errors`.

The SQLSTATE determines the kind (https://www.postgresql.org/docs/current/errcodes-appendix.html). libpq reports only
the text of a failed connection, so the kind is then looked up by that text. A server whose lc_messages is not English
has other texts: such a failure is a DatabaseUnreachable with the server's message.
"""

from collections.abc import Mapping

import psycopg

from shared.errors import (
    DatabaseError,
    DatabaseNotReady,
    DatabaseReadOnly,
    DatabaseUnreachable,
    Deadlock,
    DiskFull,
    LockTimedOut,
    LoginRefused,
    OutOfLockMemory,
    OutOfMemory,
    OutOfResources,
    QueryCancelled,
    QueryCutOff,
    ServerFault,
    StatementRefused,
    TooManyConnections,
)

ROW_FAULTS = (psycopg.DataError, psycopg.IntegrityError)
"""Errors that a value in a row causes; all others are the server's."""
COPY_FAULTS = (*ROW_FAULTS, psycopg.errors.InternalError_)
"""The same of COPY. Citus reports each error of a node during COPY as an internal error."""

KINDS: Mapping[str, type[DatabaseError]] = {
    "08": DatabaseUnreachable,  # connection exceptions
    "25006": DatabaseReadOnly,  # read_only_sql_transaction
    "25P02": ServerFault,  # in_failed_sql_transaction: the node of a savepoint has ended, so it cannot be rolled back
    "25P03": DatabaseUnreachable,  # idle_in_transaction_session_timeout
    "25P04": DatabaseUnreachable,  # transaction_timeout, which ends the connection
    "28": LoginRefused,
    "3D000": LoginRefused,  # invalid_catalog_name: no such database
    "40001": Deadlock,  # serialization_failure
    "40P01": Deadlock,  # deadlock_detected
    "53": OutOfResources,
    "53100": DiskFull,
    "53200": OutOfMemory,
    "53300": TooManyConnections,
    "55P03": LockTimedOut,  # lock_not_available
    "57014": QueryCutOff,  # query_canceled, which is also QueryCancelled
    "57P01": DatabaseUnreachable,  # admin_shutdown
    "57P02": DatabaseUnreachable,  # crash_shutdown
    "57P03": DatabaseNotReady,  # cannot_connect_now
    "57P04": LoginRefused,  # database_dropped
    "57P05": DatabaseUnreachable,  # idle_session_timeout
    "58": ServerFault,  # system_error, io_error
    "F0": ServerFault,  # config_file_error
    "XX": ServerFault,  # internal_error, data_corrupted
}
"""The kind of error by SQLSTATE, or by the two characters of its class. All others are StatementRefused."""

CONNECTION_TEXTS: Mapping[str, str] = {
    "the database system is ": "57P03",  # starting up, shutting down, in recovery mode, not (yet) accepting connections
    "too many clients already": "53300",
    "remaining connection slots are reserved": "53300",
    "too many connections for ": "53300",
    "no more connections allowed": "53300",  # PgBouncer's max_client_conn
    "authentication failed": "28P01",
    "no password supplied": "28P01",
    "no pg_hba.conf entry": "28000",
    "pg_hba.conf rejects connection": "28000",
    "is not permitted to log in": "28000",
    "permission denied for database": "28000",
    "does not exist": "3D000",  # a role or a database
    "no such user": "28000",  # PgBouncer's auth_file
    "no such database": "3D000",  # PgBouncer's [databases]
    "is not currently accepting connections": "3D000",  # ALTER DATABASE ... ALLOW_CONNECTIONS false
}
"""Texts of refused connections, and the SQLSTATE that libpq does not report."""

_WORDS: Mapping[type[DatabaseError], tuple[str, str]] = {
    DatabaseUnreachable: ("the connection to PostgreSQL was lost", ""),
    DatabaseNotReady: ("PostgreSQL is not ready yet", ""),
    TooManyConnections: ("PostgreSQL accepts no more connections", "Raise max_connections, or start fewer services"),
    LoginRefused: ("PostgreSQL refuses the login", "Is DEVICESTAT_DATABASE_URL right?"),
    QueryCutOff: ("the query ran longer than statement_timeout", ""),
    QueryCancelled: ("the query was cancelled in PostgreSQL", ""),
    LockTimedOut: ("another transaction holds a lock that this one needs", ""),
    Deadlock: ("deadlock with another transaction", ""),
    OutOfResources: ("PostgreSQL lacks a resource", ""),
    OutOfMemory: ("PostgreSQL is out of memory", ""),
    OutOfLockMemory: (
        "PostgreSQL is out of lock memory",
        "Raise max_locks_per_transaction in postgresql.conf and restart PostgreSQL",
    ),
    DiskFull: ("PostgreSQL's disk is full", "Free space on it"),
    DatabaseReadOnly: (
        "PostgreSQL refuses writes",
        "Is this a standby? DEVICESTAT_DATABASE_URL names the primary",
    ),
    ServerFault: ("PostgreSQL has failed", "See PostgreSQL's log"),
    StatementRefused: ("PostgreSQL refuses", ""),
}
_PRIVILEGE = (
    "Grant the missing privilege to the role in DEVICESTAT_DATABASE_URL, as `devicestat migrate --roles` does for the "
    "services' own roles, or use the owner of the tables"
)
# Hints that libpq adds to a reason, and its headings for a host with several addresses.
_NOISE = ("Is the server running", "Multiple connection attempts failed", "All failures were")


def diagnose(error: Exception) -> DatabaseError:
    """Translate an error of the driver; return a DatabaseError unchanged."""
    if isinstance(error, DatabaseError):
        return error
    sqlstate, kind = _kind(error)
    what, advice = _WORDS[kind]
    if sqlstate == "42501":  # insufficient_privilege
        advice = _PRIVILEGE
    return kind(_sentences(f"{what}: {reason_of(error)}", advice), sqlstate=sqlstate)


def diagnose_connecting(error: Exception, address: str) -> DatabaseError:
    """Translate a failure to connect to the server at the address. The result does not contain the password."""
    if isinstance(error, DatabaseError):
        return error
    text = reason_of(error)
    sqlstate = getattr(error, "sqlstate", None) or _sqlstate_of_text(text)
    kind = kind_of(sqlstate) if sqlstate else DatabaseUnreachable
    if not issubclass(kind, DatabaseUnreachable):
        return diagnose(error)
    advice = _WORDS[kind][1]
    if kind is DatabaseUnreachable:
        # FATAL: a server has answered
        advice = f"{'Is' if 'FATAL' in text else 'Is it running, and is'} DEVICESTAT_DATABASE_URL right?"
    return kind(_sentences(f"no connection to PostgreSQL at {address}: {text}", advice), sqlstate=sqlstate)


def kind_of(sqlstate: str) -> type[DatabaseError]:
    """Return the kind of error for a SQLSTATE."""
    return KINDS.get(sqlstate) or KINDS.get(sqlstate[:2], StatementRefused)


def _kind(error: Exception) -> tuple[str | None, type[DatabaseError]]:
    sqlstate: str | None = getattr(error, "sqlstate", None)
    if sqlstate is None:  # of the driver: lost, closed, or no answer in time
        away = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return None, DatabaseUnreachable if away else StatementRefused
    kind = kind_of(sqlstate)
    diagnostic = error.diag if isinstance(error, psycopg.Error) else None
    if kind is OutOfMemory and diagnostic and "max_locks_per_transaction" in (diagnostic.message_hint or ""):
        kind = OutOfLockMemory
    if kind is QueryCutOff and "user request" in str(error):
        kind = QueryCancelled
    return sqlstate, kind


def _sqlstate_of_text(text: str) -> str | None:
    if "FATAL" not in text and "no password supplied" not in text and "ERROR" not in text:
        return None
    return next((sqlstate for part, sqlstate in CONNECTION_TEXTS.items() if part in text), None)


def _sentences(what: str, advice: str) -> str:
    return f"{what}. {advice}" if advice else what


def reason_of(error: Exception) -> str:
    """Return the message of the server or the driver on one line, without libpq's additions."""
    lines = [line.strip(" \t-.") for line in str(error).splitlines()]
    said = "; ".join(line for line in lines if line and not line.startswith(_NOISE))
    return said.removeprefix("connection failed: ") or type(error).__name__
