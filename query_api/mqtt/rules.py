"""What a device may do at a broker: publish to its own topic, and nothing else."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec


class Action(StrEnum):
    """What a client wants to do with a topic."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    RECEIVE = "receive"
    """Get a message. Only mosquitto-go-auth asks about it."""


class AclRule(msgspec.Struct, frozen=True):
    """A rule as EMQX and rmqtt take it in an answer. The first rule that matches decides."""

    permission: Annotated[Literal["allow", "deny"], msgspec.Meta(description="What the broker is to do.")]
    action: Annotated[Literal["publish", "all"], msgspec.Meta(description="What the client does.")]
    topic: Annotated[str, msgspec.Meta(description="A topic or a filter.", examples=["devices/1/stats"])]


DENY_THE_REST = AclRule("deny", "all", "#")
PLACEHOLDER = "${"
"""Begins a placeholder, which EMQX and rmqtt replace in the topic of a rule."""


def acl_of(topic: str) -> list[AclRule]:
    """Return the rules of the device that has the topic.

    A topic that holds a placeholder gets no rule that allows it: a broker would make another topic of it.
    """
    return [DENY_THE_REST] if PLACEHOLDER in topic else [AclRule("allow", "publish", topic), DENY_THE_REST]
