"""Differences between a device's client and role on the broker and its state in the database. Pure."""

from collections.abc import Iterator

import msgspec

from shared.broker.device_credentials import DeviceCredential
from shared.broker.dynamic_security.permissions import device_client, device_role
from shared.broker.dynamic_security.records import Command, DynsecClient, DynsecRole
from shared.broker.names import device_name
from shared.broker.reconciliation import Difference
from shared.settings import TopicFilter


class Known(msgspec.Struct, frozen=True):
    """The client and the role of a device on the broker."""

    client: DynsecClient | None = None
    role: DynsecRole | None = None


def differences(device_id: int, device: DeviceCredential | None, known: Known, form: TopicFilter) -> list[Difference]:
    """Return the differences of one device, in the order in which to remove them.

    `device` is None if it was deleted or has no token.
    """
    if device is None:
        return list(_superfluous(device_id, known))
    return [*_of_role(device, known.role, form), *_of_client(device, known.client)]


def _superfluous(device_id: int, known: Known) -> Iterator[Difference]:
    name = device_name(device_id)
    if known.client is not None:
        yield Difference("a client that no device needs", ({"command": "deleteClient", "username": name},))
    if known.role is not None:
        yield Difference("a role that no device needs", ({"command": "deleteRole", "rolename": name},))


def _of_role(device: DeviceCredential, known: DynsecRole | None, form: TopicFilter) -> Iterator[Difference]:
    role = device_role(device.id, device.key, form)
    if known is None:
        yield Difference("no role", (create_role(role),))
    elif not known.allows_the_same(role):
        yield Difference("a role with other permissions", (change_role(role),))


def _of_client(device: DeviceCredential, known: DynsecClient | None) -> Iterator[Difference]:
    client = device_client(device.id, device.fingerprint)
    if known is None:
        if device.token is None:
            yield Difference("no client, and its token cannot be derived again", lost=True)
        else:
            yield Difference("no client", ({**_changed(client, device.token), "command": "createClient"},))
        return
    if known.textdescription != client.textdescription:
        yield _of_token(client, device.token)
        if device.token is None:
            return
    elif (known.clientid, known.rolenames, known.groups) != (client.clientid, client.rolenames, client.groups):
        yield Difference("a client with another client id, role or group", (_changed(client),))
    if known.disabled:
        yield Difference("a client that is disabled", ({"command": "enableClient", "username": client.username},))


def _of_token(client: DynsecClient, token: str | None) -> Difference:
    if token is not None:
        return Difference("a client with another token", (_changed(client, token),))
    # The other token is no longer valid.
    revoke = {"command": "deleteClient", "username": client.username}
    return Difference("a client with another token, and its own cannot be derived again", (revoke,), lost=True)


def _changed(client: DynsecClient, token: str | None = None) -> Command:
    """Return a modifyClient, which also disconnects the client."""
    password = {} if token is None else {"password": token}
    given = {name: value for name, value in msgspec.to_builtins(client).items() if name != "disabled"}
    return {"command": "modifyClient", **given, **password}


def create_role(role: DynsecRole) -> Command:
    """Return a createRole."""
    return {"command": "createRole", **msgspec.to_builtins(role)}


def change_role(role: DynsecRole) -> Command:
    """Return a modifyRole. It disconnects no client; later messages are checked against the new rules."""
    return {"command": "modifyRole", **msgspec.to_builtins(role)}
