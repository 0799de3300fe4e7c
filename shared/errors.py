"""Everything that Devicestat raises for a person to read.

    DevicestatError
    ├── SettingsError          one or more settings are wrong: all of them, each by name
    ├── DatabaseError
    │   ├── DatabaseUnreachable
    │   ├── SchemaTooOld       this version needs migrations that are not applied
    │   └── SchemaTooNew       a later version has migrated this database
    ├── BrokerError
    │   ├── BrokerUnreachable
    │   ├── ConnectionRefused  the CONNACK's reason
    │   ├── SubscriptionRefused  the SUBACK's reason
    │   ├── StaleConnection    what comes over it must not be read: it is made anew
    │   ├── SessionTakenOver   another client has connected with our client id
    │   ├── NotAdministered    no dynamic security that takes us for its administrator
    │   └── CommandRefused     dynamic security did not do what it was told
    └── LocalError             a port, a program or a directory of this machine

Each message says what was wrong, with the value, and what to do. A command that meets one prints the
message and exits with 1; a traceback is only for what is not in this tree.
"""

from collections.abc import Mapping, Sequence


class DevicestatError(Exception):
    """Something that the person who runs Devicestat can mend."""


class SettingsError(DevicestatError):
    """One or more settings are wrong."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class DatabaseError(DevicestatError):
    """PostgreSQL cannot be used as it is."""


class DatabaseUnreachable(DatabaseError):
    """No connection to PostgreSQL."""


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
    """Another client connected with the same client id (MQTT 5 reason 0x8E)."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        super().__init__(
            f"another client has connected with the client id {client_id!r} and taken over its session: "
            "this ingestor stops. Run one ingestor for each client id; to share the work, run "
            "`devicestat ingest --processes N`, or give each its own DEVICESTAT_MQTT_CLIENT_ID and the topic "
            "$share/<group>/devices/+/stats"
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
