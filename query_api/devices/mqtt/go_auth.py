"""`POST /mqtt/go-auth/…`, for the HTTP backend of mosquitto-go-auth: the status is the decision.

2xx allows, 4xx denies, and after 5xx the backend may retry.
"""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, post
from litestar.params import JSONBody

from query_api.access.rules import Permission
from query_api.devices.mqtt.decisions import Decision, Denied
from query_api.devices.mqtt.handlers import SECURITY, Given
from query_api.devices.mqtt.question import BrokerRequest, Question, Unreadable, note
from query_api.devices.mqtt.rules import TopicAction
from query_api.web.answers import problems
from query_api.web.answers.problems import RETRY_AFTER, Refused, documented
from query_api.web.resource import Resource


class Granted(msgspec.Struct, frozen=True):
    """The client is allowed."""

    ok: Annotated[Literal[True], msgspec.Meta(description="Always true, for the response mode json.")] = True


def refuse_unreadable(request: Request[Any, Any, Any], error: Unreadable) -> Response[Any]:
    """Respond to an unreadable body with 400."""
    note(error)
    return problems.answer(request, Refused(problems.MALFORMED, str(error)))


_POST: dict[str, Any] = {
    "permission": Permission.BROKER,
    "status_code": 200,
    "request_class": BrokerRequest,
    "exception_handlers": {Unreadable: refuse_unreadable},
    "security": SECURITY,
    "responses": documented(problems.UNAUTHENTICATED, problems.FORBIDDEN, problems.MALFORMED, problems.UNAVAILABLE),
}


@post("/user", summary="Authenticate a client of Mosquitto", **_POST)
async def go_auth_user(data: JSONBody[Question], mqtt: Given) -> Granted:
    """For `http_getuser_uri`."""
    decision = await mqtt.decisions.authenticate(data.username or "", data.password or "", data.clientid or "")
    mqtt.count("authenticate", decision)
    return _granted(decision)


@post("/superuser", summary="Check whether a client of Mosquitto is a superuser", sync_to_thread=False, **_POST)
def go_auth_superuser(data: JSONBody[Question]) -> Granted:
    """For `http_superuser_uri`. No client is a superuser."""
    return _granted(Denied(f"{data.username or 'the client'} is not a superuser: no client is"))


_ACTIONS = {"1": TopicAction.RECEIVE, "2": TopicAction.PUBLISH, "4": TopicAction.SUBSCRIBE}


@post("/acl", summary="Authorize a client of Mosquitto", **_POST)
async def go_auth_acl(data: JSONBody[Question], mqtt: Given) -> Granted:
    """For `http_aclcheck_uri`."""
    action = _ACTIONS.get(str(data.acc))
    if action is None:
        decision: Decision = Denied("acc is neither 1 (read) nor 2 (write) nor 4 (subscribe)")
    else:
        decision = await mqtt.decisions.authorize(data.username or "", data.clientid or "", action, data.topic or "")
    mqtt.count("authorize", decision)
    return _granted(decision)


def _granted(decision: Decision) -> Granted:
    if not isinstance(decision, Denied):
        return Granted()
    if decision.undecided:
        raise Refused(problems.UNAVAILABLE, f"{decision.reason}: retry", headers=RETRY_AFTER)
    raise Refused(problems.FORBIDDEN, decision.reason)


router = Resource("/mqtt/go-auth", route_handlers=[go_auth_user, go_auth_superuser, go_auth_acl], tags=["brokers"])
