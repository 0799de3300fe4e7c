"""`POST /mqtt/authenticate` and `/mqtt/authorize`, in the form of EMQX and rmqtt.

A refusal has status 200, too: after another status both brokers ask their next authenticator. EMQX reads
`is_superuser`. rmqtt reads `superuser`, and X-Cache: the milliseconds for which it caches a decision about publishing.
"""

import random
import time
from typing import Annotated, Any, Literal

import msgspec
from litestar import MediaType, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter, SkipValidation
from prometheus_client import CollectorRegistry, Counter

from query_api.access.rules import Permission
from query_api.devices.mqtt.decisions import Allowed, Decision, Decisions, Denied
from query_api.devices.mqtt.question import BrokerRequest, Question, Unreadable, note
from query_api.devices.mqtt.rules import AclRule, TopicAction, acl_of
from query_api.web.answers import problems
from query_api.web.answers.problems import documented
from query_api.web.resource import Resource

CACHED_MS = 5000
"""Milliseconds for which rmqtt caches the decision about publications of one client to one topic."""
SPREAD = 0.2
"""Largest part by which a session ends early, so that not all devices reconnect at the same time."""
SECURITY: list[dict[str, list[str]]] = [{"broker": []}]


_Result = Literal["allow", "deny", "ignore"]


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The response to a broker."""

    result: Annotated[_Result, msgspec.Meta(description="Decision.")]
    reason: Annotated[str, msgspec.Meta(description="Reason of a refusal, for the broker's operator.")] = ""


class Admission(Answer, frozen=True, omit_defaults=True, kw_only=True):
    """The response about a client that connects."""

    is_superuser: Annotated[
        bool | None, msgspec.Meta(description="Whether the client is a superuser of EMQX: always false.")
    ] = None
    superuser: Annotated[
        bool | None, msgspec.Meta(description="Whether the client is a superuser of rmqtt: always false.")
    ] = None
    acl: Annotated[
        list[AclRule] | None,
        msgspec.Meta(
            description="Rules of the client, of which the first match applies. Empty: the broker asks /mqtt/authorize."
        ),
    ] = None
    expire_at: Annotated[
        int | None,
        msgspec.Meta(description="Time at which the broker should close the connection, in seconds since 1970."),
    ] = None


class CountedDecisions:
    """The decisions, with a metric that counts them."""

    def __init__(self, decisions: Decisions, registry: CollectorRegistry) -> None:
        self.decisions = decisions
        self._count = Counter(
            "devicestat_mqtt_decisions", "Decisions for MQTT brokers.", ("question", "result"),
            registry=registry,
        )  # fmt: skip

    def count(self, question: str, decision: Decision) -> None:
        """Count the decision: allow, deny, or undecided if the database did not respond."""
        self._count.labels(question, _result(decision)).inc()


def _result(decision: Decision) -> str:
    if isinstance(decision, Allowed):
        return "allow"
    return "undecided" if decision.undecided else "deny"


Given = NamedDependency[SkipValidation[CountedDecisions]]


def refuse_unreadable(_: Request[Any, Any, Any], error: Unreadable) -> Response[bytes]:
    """Respond to an unreadable body with a refusal."""
    note(error)
    return _response(Answer("deny", str(error)))


_POST: dict[str, Any] = {
    "permission": Permission.BROKER,
    "status_code": 200,
    "request_class": BrokerRequest,
    "exception_handlers": {Unreadable: refuse_unreadable},
    "security": SECURITY,
    "responses": documented(problems.UNAUTHENTICATED, problems.INVALID_VALUE),
}


Others = Annotated[
    Literal["deny", "ignore"],
    QueryParameter(
        description="Decision for a user name that is not a device's. `ignore`: the broker asks its next authenticator."
    ),
]


@post("/authenticate", summary="Authenticate a client of a broker", **_POST)
async def authenticate(
    data: JSONBody[Question],
    mqtt: Given,
    others: Others = "deny",
    rules: Annotated[
        Literal["answer", "ask"],
        QueryParameter(
            description="`answer`: the response has the client's rules. `ask`: the broker asks /mqtt/authorize."
        ),
    ] = "answer",
    session: Annotated[
        int | None,
        QueryParameter(ge=60, le=31_536_000, description="Seconds after which the broker should close the connection."),
    ] = None,
) -> Response[Admission]:
    """The body is JSON or a form. A device's password is its token, and its client id is its user name."""
    decision = await mqtt.decisions.authenticate(data.username or "", data.password or "", data.clientid or "")
    mqtt.count("authenticate", decision)
    if isinstance(decision, Denied):
        return _response(Admission(result=_no(decision, others), reason=decision.reason))
    return _response(
        Admission(
            result="allow",
            is_superuser=False,
            superuser=False,
            acl=acl_of(decision.topic) if rules == "answer" else [],
            expire_at=None if session is None else _ends(session),
        )
    )


def _ends(session: int) -> int:
    early = session * SPREAD * random.random()  # noqa: S311  # no secret
    return int(time.time() + session - early)


@post("/authorize", summary="Authorize a client of a broker", **_POST)
async def authorize(data: JSONBody[Question], mqtt: Given, others: Others = "deny") -> Response[Answer]:
    """The body is JSON or a form. The client is authenticated already, so its password is not needed."""
    action = _action(data)
    if action is None:
        decision: Decision = Denied("action is neither publish (2) nor subscribe (1)")
    else:
        decision = await mqtt.decisions.authorize(data.username or "", data.clientid or "", action, data.topic or "")
    mqtt.count("authorize", decision)
    if isinstance(decision, Denied):
        return _response(Answer(_no(decision, others), decision.reason))
    return _response(Answer("allow"), {"X-Cache": str(CACHED_MS)})


def _no(denied: Denied, others: Literal["deny", "ignore"]) -> Literal["deny", "ignore"]:
    return others if denied.stranger else "deny"


_ACTIONS = {
    "publish": TopicAction.PUBLISH,
    "2": TopicAction.PUBLISH,
    "subscribe": TopicAction.SUBSCRIBE,
    "1": TopicAction.SUBSCRIBE,
}


def _action(question: Question) -> TopicAction | None:
    given = question.access if question.action is None else question.action
    return _ACTIONS.get(str(given))


def _response(answer: Answer, headers: dict[str, str] | None = None) -> Response[Any]:
    return Response(msgspec.json.encode(answer), media_type=MediaType.JSON, headers=headers)


router = Resource("/mqtt", route_handlers=[authenticate, authorize], tags=["brokers"])
