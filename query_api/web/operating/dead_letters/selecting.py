"""Conditions on dead letters in requests."""

from typing import Annotated, Any

import msgspec
from litestar.params import QueryParameter

from query_api.errors import Fault
from query_api.web.answers.problems import invalid
from shared.dead_letters.selection import Selection, is_topic_filter
from shared.readings.model import Reason

MAX_IDS = 1000
WORK_S = 5.0
"""Seconds after which a request replays or deletes no more. The response says how many are left."""
SUBJECT = "dead letters"
"""Subject of an entry of the audit log."""
MAX_TOPIC = 1000
TOPIC_RULE = "a topic filter such as devices/7/stats, devices/+/stats or devices/#"

WantedReason = Annotated[
    Reason | None, QueryParameter(description="Select those of which a reading was refused for this reason.")
]
Topic = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=MAX_TOPIC,
        description=f"Select by the topic: {TOPIC_RULE}. + is one level, # all further levels.",
    ),
]


def require_topic_filter(topic: str | None) -> None:
    """Raise Refused for a text that is no topic filter."""
    if topic is not None and not is_topic_filter(topic):
        raise invalid(Fault("topic", f"expected {TOPIC_RULE}"))


def recorded(wanted: Selection) -> dict[str, Any]:
    """Return the conditions for the audit log; of ids only their number."""
    conditions = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not None}
    if wanted.ids is not None:
        conditions["ids"] = len(wanted.ids)
    return {"selection": msgspec.to_builtins(conditions)}
