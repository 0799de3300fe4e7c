"""Everything that Devicestat raises for a person to read.

    DevicestatError
    ├── SettingsError          one or more settings are wrong: all of them, each by name
    ├── DatabaseError          shared.postgres.errors turns a driver's error into one of these
    │   ├── DatabaseUnreachable  no connection can be made, or it was lost
    │   │   ├── DatabaseNotReady   PostgreSQL starts up, recovers or shuts down
    │   │   ├── TooManyConnections
    │   │   └── LoginRefused     password, role, database or pg_hba.conf
    │   ├── DatabaseBusy         PostgreSQL works, but not on this statement now: the same may succeed later
    │   │   ├── PoolExhausted    all connections of one of our own pools are in use
    │   │   ├── QueryCutOff      statement_timeout
    │   │   ├── QueryCancelled   somebody cancelled the statement
    │   │   ├── LockTimedOut
    │   │   └── Deadlock
    │   ├── OutOfResources       PostgreSQL lacks something that an operator gives it
    │   │   ├── OutOfMemory
    │   │   ├── OutOfLockMemory
    │   │   └── DiskFull
    │   ├── DatabaseReadOnly     a standby, or default_transaction_read_only
    │   ├── ServerFault          an I/O error, corrupted data or an internal error of PostgreSQL
    │   ├── StatementRefused     a privilege, a table or a limit: the same statement fails again
    │   ├── SchemaTooOld       this version needs migrations that are not applied
    │   └── SchemaTooNew       a later version has migrated this database
    ├── BrokerError
    │   ├── BrokerUnreachable
    │   │   ├── BrokerNotThere   nothing answers at its address yet
    │   │   └── ConnectionClosed  by the broker, with or without a reason
    │   ├── ConnectionRefused  the CONNACK's reason
    │   ├── SubscriptionRefused  the SUBACK's reason
    │   ├── StaleConnection    what comes over it must not be read: it is made anew
    │   ├── SessionTakenOver   another ingestor of ours has connected with our client id
    │   ├── ClientIdContended  a client that is none of ours does so again and again
    │   ├── NotAdministered    no dynamic security that takes us for its administrator
    │   └── CommandRefused     dynamic security did not do what it was told
    └── LocalError             a port, a program or a directory of this machine

Each message says what was wrong, with the value, and what to do. A command that meets one prints the
message and exits with 1; a traceback is only for what is not in this tree.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class DevicestatError(Exception):
    """Something that the person who runs Devicestat can mend."""


class SettingsError(DevicestatError):
    """One or more settings are wrong."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class DatabaseError(DevicestatError):
    """PostgreSQL cannot be used as it is."""

    passes: ClassVar[bool] = False
    """Whether it may pass without an operator: a start waits for it."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        """`sqlstate`: PostgreSQL's five characters, if it has given an answer that holds them."""
        self.sqlstate = sqlstate
        super().__init__(message)


class DatabaseUnreachable(DatabaseError):
    """No connection to PostgreSQL: it refuses, does not answer, or the connection was lost."""

    passes = True


class DatabaseNotReady(DatabaseUnreachable):
    """PostgreSQL starts up, recovers from a crash, or shuts down (57P03)."""


class TooManyConnections(DatabaseUnreachable):
    """All connections that PostgreSQL, the role or the database may have are in use (53300)."""


class LoginRefused(DatabaseUnreachable):
    """PostgreSQL refuses the password, the role or the database (class 28, 3D000)."""

    passes = False


class DatabaseBusy(DatabaseError):
    """PostgreSQL works, and this statement did not get its turn: the same statement may succeed later."""

    passes = True


class PoolExhausted(DatabaseBusy):
    """All connections of one of our own pools are in use. It says nothing about PostgreSQL."""


class QueryCutOff(DatabaseBusy):
    """The statement ran longer than statement_timeout (57014)."""


class QueryCancelled(DatabaseBusy):
    """Somebody cancelled the statement, for example with pg_cancel_backend (57014)."""


class LockTimedOut(DatabaseBusy):
    """Another transaction held a lock for longer than lock_timeout, or NOWAIT did not wait (55P03)."""


class Deadlock(DatabaseBusy):
    """Two transactions waited for each other, or collided; PostgreSQL undid this one (40P01, 40001)."""


class OutOfResources(DatabaseError):
    """PostgreSQL lacks something that an operator gives it (class 53)."""

    passes = True


class OutOfMemory(OutOfResources):
    """The server's memory is used up (53200)."""


class OutOfLockMemory(OutOfResources):
    """The shared lock table is full: max_locks_per_transaction is too small (53200)."""


class DiskFull(OutOfResources):
    """The disk of the data or of the WAL is full (53100)."""


class DatabaseReadOnly(DatabaseError):
    """The server or the database takes no writes (25006)."""

    passes = True


class ServerFault(DatabaseError):
    """PostgreSQL has failed: an I/O error, corrupted data, an internal error (classes 58, F0, XX)."""


class StatementRefused(DatabaseError):
    """PostgreSQL refuses the statement, and would again: a privilege, a missing table, a limit."""


class SchemaTooOld(DatabaseError):
    """This version needs migrations that the database does not have."""

    def __init__(self, have: int, need: int) -> None:
        self.have = have
        self.need = need
        super().__init__(
            f"the database's schema is at version {have}, this devicestat needs {need}: run `devicestat migrate`"
        )


class SchemaTooNew(DatabaseError):
    """A later version has migrated the database."""

    def __init__(self, have: int, need: int) -> None:
        self.have = have
        self.need = need
        super().__init__(
            f"the database's schema is at version {have}, this devicestat knows {need}: upgrade devicestat"
        )


class BrokerError(DevicestatError):
    """The MQTT broker cannot be used as it is."""


class BrokerUnreachable(BrokerError):
    """No connection to the broker."""


class ConnectionClosed(BrokerUnreachable):
    """The broker has closed the connection.

    `was_accepted`: after it had accepted it. `taken_over`: with reason 0x8E, session taken over.
    """

    def __init__(self, message: str, *, was_accepted: bool, taken_over: bool = False) -> None:
        self.was_accepted = was_accepted
        self.taken_over = taken_over
        super().__init__(message)


class BrokerNotThere(BrokerUnreachable):
    """Nothing answers at the broker's address: it may be about to start."""


class ConnectionRefused(BrokerError):
    """The broker answered CONNECT with a reason code of failure."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class SubscriptionRefused(BrokerError):
    """The broker answered SUBSCRIBE with a reason code of failure."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class StaleConnection(BrokerError):
    """While the connection began, its session or the journal of it became another's."""


class SessionTakenOver(BrokerError):
    """Another ingestor connected with the same client id, and has written to the journal."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        super().__init__(
            f"another client has connected with the client id {client_id!r} and taken over its session: "
            "this ingestor stops. Run one ingestor for each client id; to share the work, run "
            "`devicestat ingest --processes N`, or give each its own DEVICESTAT_MQTT_CLIENT_ID and the topic "
            "$share/<group>/devices/+/stats"
        )


class ClientIdContended(BrokerError):
    """Another client, which is no ingestor of this database, connects with our client id.

    `told`: the broker has said so; else it has only closed `times` connections in a row.
    """

    def __init__(self, address: str, client_id: str, times: int, *, told: bool) -> None:
        self.client_id = client_id
        self.times = times
        found = (
            f"another client has connected to the MQTT broker at {address} with the client id {client_id!r} and taken "
            f"over its session, {times} times in a row"
            if told
            else f"the MQTT broker at {address} has closed {times} connections in a row soon after they began, as it "
            f"does when another client connects with the client id {client_id!r}"
        )
        super().__init__(
            f"{found}. It is no ingestor of this database: nobody else has written to the journal. What it receives is "
            "not stored. Find it in the broker's log, in Mosquitto's as \"New client connected from ADDRESS as "
            f'{client_id}", and stop it, or set DEVICESTAT_MQTT_CLIENT_ID to a name that no other client has'
        )


class NotAdministered(BrokerError):
    """The broker has no dynamic security, or does not let us administer it."""


class CommandRefused(BrokerError):
    """Dynamic security answered a command with an error."""

    def __init__(self, command: Mapping[str, object], reason: str) -> None:
        self.command = command["command"]
        self.about = command.get("username", command.get("rolename", ""))
        self.reason = reason
        shown = f"{self.command} {self.about}".rstrip()  # never all of it, for it may hold a password
        super().__init__(f"the broker's dynamic security refuses {shown}: {reason}")


class LocalError(DevicestatError):
    """A port, a program or a directory of this machine cannot be used."""
