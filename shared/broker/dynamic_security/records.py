"""What dynamic security knows of: clients, their roles and what these allow, in the words of its protocol.

https://mosquitto.org/documentation/dynamic-security/
"""

from collections.abc import Mapping
from typing import Any

import msgspec

Command = Mapping[str, Any]
"""A command and what it takes, without its correlationData."""


class Acl(msgspec.Struct, frozen=True):
    """One thing that a role allows. `acltype`: publishClientSend, subscribePattern and so on."""

    acltype: str
    topic: str
    allow: bool = False  # as the plugin takes one that does not say

    def __str__(self) -> str:
        return f"{'' if self.allow else 'no '}{self.acltype} {self.topic}"


class DynsecRole(msgspec.Struct, frozen=True):
    """What whoever has it may do. All of ours allow and none forbids, so that the order of a role does not count."""

    rolename: str
    acls: tuple[Acl, ...] = ()

    def allows_the_same(self, other: "DynsecRole") -> bool:
        """Whether both have the same rules, in whatever order."""
        return set(self.acls) == set(other.acls)


class RoleOfClient(msgspec.Struct, frozen=True):
    """That a client has a role."""

    rolename: str


class GroupOfClient(msgspec.Struct, frozen=True):
    """That a client is in a group, and has its roles as well."""

    groupname: str


class DynsecClient(msgspec.Struct, frozen=True, kw_only=True):
    """Who may connect: by user name and password and, where there is a client id, with that alone."""

    username: str
    clientid: str = ""
    textdescription: str = ""
    disabled: bool = False
    roles: tuple[RoleOfClient, ...] = ()
    groups: tuple[GroupOfClient, ...] = ()

    @property
    def rolenames(self) -> list[str]:
        return [role.rolename for role in self.roles]


class DefaultAccess(msgspec.Struct, frozen=True):
    """What is allowed where no role says anything, by `acltype`."""

    acltype: str
    allow: bool


class _Data(msgspec.Struct, frozen=True, kw_only=True):
    """What a command that asks is answered with; each fills one or two of these."""

    client: DynsecClient | None = None
    role: DynsecRole | None = None
    clients: tuple[DynsecClient, ...] = ()
    roles: tuple[DynsecRole, ...] = ()
    acls: tuple[DefaultAccess, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename={"correlation": "correlationData"}):
    """To one command."""

    command: str = ""
    correlation: str = ""
    error: str | None = None
    data: _Data = _Data()


class Answers(msgspec.Struct, frozen=True):
    """To the commands of one message, in their order."""

    responses: tuple[Answer, ...]
