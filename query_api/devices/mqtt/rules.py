"""Rules of a device at a broker: it may publish to its own topic only."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec


class TopicAction(StrEnum):
    """An action of a client on a topic."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    RECEIVE = "receive"
    """Receive a message. Only mosquitto-go-auth asks about it."""


class AclRule(msgspec.Struct, frozen=True):
    """A rule in a response to EMQX and rmqtt. The first rule that matches applies."""

    permission: Annotated[Literal["allow", "deny"], msgspec.Meta(description="Whether the action is allowed.")]
    action: Annotated[Literal["publish", "all"], msgspec.Meta(description="Action of the client.")]
    topic: Annotated[str, msgspec.Meta(description="A topic or a filter.", examples=["devices/1/stats"])]


DENY_THE_REST = AclRule("deny", "all", "#")
PLACEHOLDER = "${"
"""Start of a placeholder, which EMQX and rmqtt replace in the topic of a rule."""


def acl_of(topic: str) -> list[AclRule]:
    """Return the rules of the device that has the topic.

    A topic with a placeholder is not allowed, as the broker would replace the placeholder.
    """
    return [DENY_THE_REST] if PLACEHOLDER in topic else [AclRule("allow", "publish", topic), DENY_THE_REST]
