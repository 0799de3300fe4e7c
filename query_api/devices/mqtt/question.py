"""Decode the request of a broker: JSON or a form, with the fields that the broker's configuration names.

A client of the broker chooses the text of most fields, and after an error status a broker asks its next authenticator.
So an unreadable body is not a client error: it raises Unreadable, and the response is a refusal.
"""

from time import monotonic
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
import structlog

from query_api.errors import MAX_DISPLAYED, displayed
from query_api.web.limits.window import Window
from query_api.web.requests.bodies import JsonRequest

MAX_BODY_BYTES = 64 * 1024
"""Several times the size of the user name, password, client id and topic of a device."""
MAX_FIELDS = 64
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class Unreadable(Exception):
    """The body is not a question. The message has the reason."""


_Text = str | None


class Question(msgspec.Struct, frozen=True):
    """The question of a broker about a client. Unknown fields are ignored."""

    username: Annotated[_Text, msgspec.Meta(description="The client's user name.", examples=["device-1"])] = None
    password: Annotated[_Text, msgspec.Meta(description="The client's password: a device's token.")] = None
    clientid: Annotated[_Text, msgspec.Meta(description="The client id.", examples=["device-1"])] = None
    topic: Annotated[
        _Text, msgspec.Meta(description="The topic, or the filter of a subscription.", examples=["devices/1/stats"])
    ] = None
    action: Annotated[
        str | int | None,
        msgspec.Meta(description="`publish` or `subscribe`; also 2 or 1, as rmqtt has it.", examples=["publish"]),
    ] = None
    access: Annotated[str | int | None, msgspec.Meta(description="Another name for `action`, as rmqtt has it.")] = None
    acc: Annotated[
        str | int | None,
        msgspec.Meta(description="mosquitto-go-auth's name: 1 read, 2 write, 4 subscribe.", examples=[2]),
    ] = None


class BrokerRequest(JsonRequest):
    """A request whose body is a question."""

    _question_body: bytes | None = None

    async def json(self) -> Question:
        """Return the question. Raises Unreadable."""
        return read_question(await self.body(), self.content_type[0])

    async def body(self) -> bytes:
        """Return the body. Litestar calls it first. Raises Unreadable if it is empty or too long.

        The rest of a body that is too long is read and discarded, so that the broker receives the response.
        """
        if self._question_body is None:
            kept, length = [], 0
            async for chunk in self.stream():
                length += len(chunk)
                if length <= MAX_BODY_BYTES:
                    kept.append(chunk)
            if length > MAX_BODY_BYTES or not length:
                raise Unreadable(f"the body is longer than {MAX_BODY_BYTES:,} bytes" if length else "the body is empty")
            self._question_body = b"".join(kept)
        return self._question_body


def read_question(body: bytes, media_type: str) -> Question:
    """Return the question in the body. Raises Unreadable."""
    if media_type == JSON:
        try:
            return _decoder.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Unreadable(f"the body is not JSON with the fields of a question: {error}") from error
    if media_type == FORM:
        return _of_form(body)
    raise Unreadable(f"the body is {media_type or 'of no type'}: send {JSON} or {FORM}")


def note(error: Unreadable) -> None:
    """Log the error once a minute, as the broker does not log the fault of its configuration."""
    if _noted.add(str(error)[:MAX_DISPLAYED]) == 1:
        _log.warning("a request of a broker could not be decoded", reason=str(error))


_log = structlog.get_logger()
_noted = Window(60.0, monotonic)
_decoder = msgspec.json.Decoder(Question)
_KNOWN = frozenset(Question.__struct_fields__)


def _of_form(body: bytes) -> Question:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Unreadable(f"the body is not a form: {error}") from error
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise Unreadable(f"the form has the field {displayed(name)} twice")
        if name in _KNOWN:
            fields[name] = value
    return Question(**fields)
