"""Dynamic security as its administrator: commands over MQTT, and their answers.

Many commands go in one message, and are carried out in their order before the broker does anything else. Its answer
goes to whoever listens, at QoS 0: ours are told by their correlationData.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import msgspec
from aiomqtt.exceptions import MqttConnectError

from shared.broker.client import mqtt_client
from shared.broker.dynamic_security.records import Answer, Answers, Command, DynsecClient, DynsecRole
from shared.broker.tls import why
from shared.errors import BrokerUnreachable, CommandRefused, ConnectionRefused, NotAdministered, SettingsError
from shared.settings import MqttAddress

TOPIC = "$CONTROL/dynamic-security/v1"
RESPONSES = f"{TOPIC}/response"
FIRST_ANSWER_S = 5.0
"""A broker without the plugin says nothing at all."""
ANSWER_S = 60.0
"""With very many clients the plugin takes long: it writes all of them to its file at each change."""
PAGE = 1000
"""Clients or roles in one answer."""
_FAILURES = 0x80
"""Reason codes from here on are of failures (MQTT 5, section 2.4)."""

_decoder = msgspec.json.Decoder(Answers)


class Dynsec:
    """A connection; one message is answered before the next.

    `round_trip_s`: what an answer takes that costs the broker nothing.
    """

    def __init__(self, client: aiomqtt.Client, address: MqttAddress) -> None:
        self._client = client
        self._address = address
        self._name = uuid.uuid4().hex
        self._numbers = itertools.count()
        self.round_trip_s = 0.0

    async def begin(self) -> None:
        """Sees that it answers. Raises NotAdministered."""
        began = time.monotonic()
        await self.ask([{"command": "getDefaultACLAccess"}], FIRST_ANSWER_S)
        self.round_trip_s = time.monotonic() - began

    async def ask(self, commands: Sequence[Command], within_s: float = ANSWER_S) -> list[Answer]:
        """Has the commands carried out, and returns the answer to each. Raises BrokerError without all of them."""
        tags = [f"{self._name}-{next(self._numbers)}" for _ in commands]
        tagged = [{**command, "correlationData": tag} for command, tag in zip(commands, tags, strict=True)]
        answers: dict[str, Answer] = {}
        try:
            async with asyncio.timeout(within_s):
                await self._client.publish(TOPIC, msgspec.json.encode({"commands": tagged}), qos=1, timeout=within_s)
                while not answers.keys() >= set(tags):
                    answers |= await self._answers()
        except TimeoutError as error:
            raise NotAdministered(
                f"dynamic security of the broker at {self._address} did not answer within {within_s:g} s: is "
                "Mosquitto's plugin mosquitto_dynamic_security.so loaded, and may the user of "
                f"DEVICESTAT_MQTT_ADMIN_URL publish to {TOPIC}?"
            ) from error
        return [answers[tag] for tag in tags]

    async def _answers(self) -> dict[str, Answer]:
        """Those in the next message, by their correlationData; also another administrator's."""
        message = await anext(self._client.messages)
        assert isinstance(message.payload, bytes), "aiomqtt delivers bytes"
        try:
            return {answer.correlation: answer for answer in _decoder.decode(message.payload).responses}
        except msgspec.MsgspecError as error:
            raise NotAdministered(
                f"the broker at {self._address} answers on {RESPONSES} what dynamic security does not: {error}"
            ) from error

    async def do(self, commands: Sequence[Command]) -> list[CommandRefused]:
        """Has the commands carried out; returns those that were not."""
        answers = zip(commands, await self.ask(commands), strict=True)
        return [CommandRefused(command, answer.error) for command, answer in answers if answer.error is not None]

    async def clients(self) -> AsyncIterator[DynsecClient]:
        """All that there are."""
        async for data in self._listed("listClients"):
            for client in data.clients:
                yield client

    async def roles(self) -> AsyncIterator[DynsecRole]:
        """All that there are."""
        async for data in self._listed("listRoles"):
            for role in data.roles:
                yield role

    async def default_access(self) -> dict[str, bool]:
        """What is allowed where no role says anything."""
        (answer,) = await self.ask([{"command": "getDefaultACLAccess"}])
        return {access.acltype: access.allow for access in answer.data.acls}

    async def _listed(self, command: str) -> AsyncIterator[Any]:
        """The pages of a list; what comes or goes meanwhile may be missing or be there twice."""
        for offset in itertools.count(step=PAGE):
            (answer,) = await self.ask([{"command": command, "verbose": True, "count": PAGE, "offset": offset}])
            yield answer.data
            if len(answer.data.clients or answer.data.roles) < PAGE:
                return


@asynccontextmanager
async def administering(address: MqttAddress) -> AsyncIterator[Dynsec]:
    """A connection on which dynamic security has answered.

    Raises BrokerError where there is none, and where it breaks within the block.
    """
    try:
        async with mqtt_client(address, "admin") as client:
            granted = await client.subscribe(RESPONSES, qos=1)
            if any(_value(code) >= _FAILURES for code in granted):
                raise NotAdministered(
                    f"the broker at {address} does not let the user of DEVICESTAT_MQTT_ADMIN_URL subscribe to "
                    f"{RESPONSES}: give him the role that `devicestat broker init` calls admin"
                )
            dynsec = Dynsec(client, address)
            await dynsec.begin()
            yield dynsec
    except SettingsError as error:
        raise BrokerUnreachable(str(error)) from error
    except aiomqtt.MqttError as error:
        raise _translated(error, address) from error


def _translated(error: aiomqtt.MqttError, address: MqttAddress) -> BrokerUnreachable | ConnectionRefused:
    if isinstance(error, MqttConnectError):
        return ConnectionRefused(
            f"the broker at {address} refuses the connection ({error}): check user and password in "
            "DEVICESTAT_MQTT_ADMIN_URL",
            reason=str(error),
        )
    cause = why(error.__context__) if isinstance(error.__context__, OSError) else str(error)
    return BrokerUnreachable(
        f"no connection to the MQTT broker at {address}: {cause}. "
        "Is it running, and is DEVICESTAT_MQTT_ADMIN_URL right?"
    )


def _value(code: Any) -> int:
    value: int = getattr(code, "value", code)
    return value
