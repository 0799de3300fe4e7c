"""Records of dynamic security's protocol: clients, roles, ACLs, and answers.

https://mosquitto.org/documentation/dynamic-security/
"""

from collections.abc import Mapping
from typing import Any

import msgspec

Command = Mapping[str, Any]
"""A command with its arguments, without its correlationData."""


class Acl(msgspec.Struct, frozen=True):
    """One rule of a role. `acltype`: publishClientSend, subscribePattern and so on."""

    acltype: str
    topic: str
    allow: bool = False  # the plugin's default

    def __str__(self) -> str:
        return f"{'' if self.allow else 'no '}{self.acltype} {self.topic}"


class DynsecRole(msgspec.Struct, frozen=True):
    """A role. All rules of Devicestat's roles allow, so their order does not matter."""

    rolename: str
    acls: tuple[Acl, ...] = ()

    def allows_the_same(self, other: "DynsecRole") -> bool:
        """Whether both roles have the same rules, in any order."""
        return set(self.acls) == set(other.acls)


class RoleOfClient(msgspec.Struct, frozen=True):
    """A client's membership in a role."""

    rolename: str


class GroupOfClient(msgspec.Struct, frozen=True):
    """A client's membership in a group, whose roles apply to the client."""

    groupname: str


class DynsecClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client that may connect with user name and password; if `clientid` is set, only with that client id."""

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
    """Default access for an `acltype`, if no role has a rule."""

    acltype: str
    allow: bool


class _Data(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an answer; each command fills one or two fields."""

    client: DynsecClient | None = None
    role: DynsecRole | None = None
    clients: tuple[DynsecClient, ...] = ()
    roles: tuple[DynsecRole, ...] = ()
    acls: tuple[DefaultAccess, ...] = ()


class CommandAnswer(msgspec.Struct, frozen=True, kw_only=True, rename={"correlation": "correlationData"}):
    """The answer to one command."""

    command: str = ""
    correlation: str = ""
    error: str | None = None
    data: _Data = _Data()


class CommandAnswers(msgspec.Struct, frozen=True):
    """The answers to the commands of one message, in their order."""

    responses: tuple[CommandAnswer, ...]
