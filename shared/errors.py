"""The tree of errors that Devicestat reports to a user or an operator.

    DevicestatError
    ├── SettingsError          one or more settings are wrong: lists all of them by name
    ├── DatabaseError          shared.postgres.errors turns a driver's error into one of these
    │   ├── DatabaseUnreachable  no connection can be made, or it was lost
    │   │   ├── DatabaseNotReady   PostgreSQL is starting, recovering or shutting down
    │   │   ├── TooManyConnections
    │   │   └── LoginRefused     password, role, database or pg_hba.conf
    │   ├── DatabaseBusy         PostgreSQL works, but this statement failed: a retry may succeed
    │   │   ├── PoolExhausted    all connections of a pool of Devicestat are in use
    │   │   ├── QueryCutOff      statement_timeout, or the deadline of a request
    │   │   ├── QueryCancelled   the statement was cancelled
    │   │   ├── LockTimedOut
    │   │   └── Deadlock
    │   ├── OutOfResources       PostgreSQL lacks a resource that the operator provides
    │   │   ├── OutOfMemory
    │   │   ├── OutOfLockMemory
    │   │   └── DiskFull
    │   ├── DatabaseReadOnly     a standby, or default_transaction_read_only
    │   ├── ServerFault          an I/O error, corrupted data or an internal error of PostgreSQL
    │   ├── StatementRefused     a privilege, a table or a limit: the same statement fails again
    │   ├── SchemaTooOld         this version needs migrations that are not applied
    │   └── SchemaTooNew         a later version has migrated this database
    ├── BrokerError
    │   ├── BrokerUnreachable
    │   │   ├── BrokerNotThere   no server answers at its address yet
    │   │   └── ConnectionClosed  by the broker, with or without a reason
    │   ├── ConnectionRefused  with the CONNACK's reason
    │   ├── SubscriptionRefused  with the SUBACK's reason
    │   ├── StaleConnection    messages on the connection must not be read: reconnect
    │   ├── SessionTakenOver   another ingestor has connected with the client id
    │   ├── ClientIdContended  a foreign client repeatedly connects with the client id
    │   ├── NotAdministered    dynamic security is missing, or refuses administration
    │   └── CommandRefused     dynamic security has refused a command
    └── LocalError             a port, a program or a directory of this machine

Each message names the fault, the value, and a remedy. A command prints the message and exits with 1; it prints a
traceback only for errors outside this tree.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class DevicestatError(Exception):
    """Base of the errors that the operator can resolve."""


class SettingsError(DevicestatError):
    """One or more settings are wrong."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class DatabaseError(DevicestatError):
    """PostgreSQL is not usable in its present state."""

    passes: ClassVar[bool] = False
    """Whether the fault may be temporary, so that a retry makes sense."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        """`sqlstate`: PostgreSQL's code of five characters; None if the server has not sent one."""
        self.sqlstate = sqlstate
        super().__init__(message)


class DatabaseUnreachable(DatabaseError):
    """No connection to PostgreSQL: it refused, did not respond, or the connection was lost."""

    passes = True


class DatabaseNotReady(DatabaseUnreachable):
    """PostgreSQL is starting, recovering from a crash, or shutting down (57P03)."""


class TooManyConnections(DatabaseUnreachable):
    """The connection limit of PostgreSQL, the role or the database is reached (53300)."""


class LoginRefused(DatabaseUnreachable):
    """PostgreSQL refuses the password, the role or the database (class 28, 3D000)."""

    passes = False


class DatabaseBusy(DatabaseError):
    """PostgreSQL works, but this statement failed temporarily: a retry may succeed."""

    passes = True


class PoolExhausted(DatabaseBusy):
    """All connections of a pool of Devicestat are in use. PostgreSQL may be healthy."""


class QueryCutOff(DatabaseBusy):
    """The statement ran longer than statement_timeout (57014), or the statements of a request longer than allowed."""


class QueryCancelled(DatabaseBusy):
    """The statement was cancelled, for example with pg_cancel_backend (57014)."""


class LockTimedOut(DatabaseBusy):
    """Another transaction held a lock for longer than lock_timeout, or with NOWAIT (55P03)."""


class Deadlock(DatabaseBusy):
    """Two transactions waited for each other or conflicted; PostgreSQL rolled this one back (40P01, 40001)."""


class OutOfResources(DatabaseError):
    """PostgreSQL lacks a resource that the operator provides (class 53)."""

    passes = True


class OutOfMemory(OutOfResources):
    """The server's memory is used up (53200)."""


class OutOfLockMemory(OutOfResources):
    """The shared lock table is full: max_locks_per_transaction is too small (53200)."""


class DiskFull(OutOfResources):
    """The disk of the data or of the WAL is full (53100)."""


class DatabaseReadOnly(DatabaseError):
    """The server or the database is read-only (25006)."""

    passes = True


class ServerFault(DatabaseError):
    """PostgreSQL has failed: an I/O error, corrupted data, an internal error (classes 58, F0, XX)."""


class StatementRefused(DatabaseError):
    """PostgreSQL refuses the statement, and a retry would fail: a privilege, a missing table, a limit."""


class SchemaTooOld(DatabaseError):
    """This version needs migrations that the database does not have."""

    def __init__(self, have: int, need: int) -> None:
        self.have = have
        self.need = need
        super().__init__(
            f"the database's schema is at version {have}, this version of devicestat needs {need}: "
            "run `devicestat migrate`"
        )


class SchemaTooNew(DatabaseError):
    """A later version has migrated the database."""

    def __init__(self, have: int, need: int) -> None:
        self.have = have
        self.need = need
        super().__init__(
            f"the database's schema is at version {have}, this version of devicestat supports {need}: "
            "upgrade devicestat"
        )


class BrokerError(DevicestatError):
    """The MQTT broker is not usable in its present state."""


class BrokerUnreachable(BrokerError):
    """No connection to the broker."""


class ConnectionClosed(BrokerUnreachable):
    """The broker has closed the connection.

    `was_accepted`: whether it had accepted the connection. `taken_over`: whether the reason was 0x8E, session taken
    over.
    """

    def __init__(self, message: str, *, was_accepted: bool, taken_over: bool = False) -> None:
        self.was_accepted = was_accepted
        self.taken_over = taken_over
        super().__init__(message)


class BrokerNotThere(BrokerUnreachable):
    """No server answers at the broker's address: it may be starting."""


class RequestRefused(BrokerError):
    """The broker answered a request with a failure. `reason`: its reason code, in words."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class ConnectionRefused(RequestRefused):
    """The broker answered CONNECT with a failure."""


class SubscriptionRefused(RequestRefused):
    """The broker answered SUBSCRIBE with a failure."""


class StaleConnection(BrokerError):
    """While the connection began, another client got its session or the journal."""


class SessionTakenOver(BrokerError):
    """Another ingestor has connected with the client id and written to the journal."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        super().__init__(
            f"another client has connected with the client id {client_id!r} and taken over its session: "
            "this ingestor stops. Run one ingestor for each client id; to share the work, run "
            "`devicestat ingest --processes N`, or give each its own DEVICESTAT_MQTT_CLIENT_ID and the topic "
            "$share/<group>/devices/+/stats"
        )


class ClientIdContended(BrokerError):
    """A client that is not an ingestor of this database connects with the ingestor's client id.

    `is_notified`: whether the broker has sent DISCONNECT 0x8E; else it has only closed `times` consecutive connections.
    """

    def __init__(self, address: str, client_id: str, times: int, *, is_notified: bool) -> None:
        self.client_id = client_id
        self.times = times
        found = (
            f"another client has connected to the MQTT broker at {address} with the client id {client_id!r} and taken "
            f"over its session, {times} times in a row"
            if is_notified
            else f"the MQTT broker at {address} has closed {times} connections in a row soon after they began, as it "
            f"does when another client connects with the client id {client_id!r}"
        )
        super().__init__(
            f"{found}. It is not an ingestor of this database, because the journal has no entry of another one. What "
            "it receives is not stored. Find it in the broker's log, in Mosquitto's as \"New client connected from "
            f'ADDRESS as {client_id}", and stop it, or set DEVICESTAT_MQTT_CLIENT_ID to a name that no other client has'
        )


class NotAdministered(BrokerError):
    """The broker has no dynamic security, or refuses its administration."""


class CommandRefused(BrokerError):
    """Dynamic security has answered a command with an error."""

    def __init__(self, command: Mapping[str, object], reason: str) -> None:
        self.command = command["command"]
        self.about = command.get("username", command.get("rolename", ""))
        self.reason = reason
        shown = f"{self.command} {self.about}".rstrip()  # not the whole command, which may contain a password
        super().__init__(f"the broker's dynamic security refuses {shown}: {reason}")


class LocalError(DevicestatError):
    """A port, a program or a directory of this machine cannot be used."""
