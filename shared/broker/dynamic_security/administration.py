"""Administration of dynamic security: commands over MQTT, and their answers.

The broker executes the commands of one message in order, before anything else. It publishes the answers at QoS 0 to all
subscribers; the correlationData shows which answers are ours.
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
from shared.broker.dynamic_security.records import Command, CommandAnswer, CommandAnswers, DynsecClient, DynsecRole
from shared.broker.tls import why
from shared.errors import BrokerUnreachable, CommandRefused, ConnectionRefused, NotAdministered, SettingsError
from shared.settings import MqttAddress

TOPIC = "$CONTROL/dynamic-security/v1"
RESPONSES = f"{TOPIC}/response"
FIRST_ANSWER_S = 5.0
"""A broker without the plugin does not respond."""
ANSWER_S = 60.0
"""The plugin writes all clients to its file at each change, which takes long if there are many."""
PAGE = 1000
"""Clients or roles in one answer."""
_FAILURES = 0x80
"""First reason code of a failure (MQTT 5, section 2.4)."""

_decoder = msgspec.json.Decoder(CommandAnswers)


class Dynsec:
    """A connection to dynamic security. It sends a message after the answer to the previous one.

    `round_trip_s`: time that the broker takes to answer a trivial command.
    """

    def __init__(self, client: aiomqtt.Client, address: MqttAddress) -> None:
        self._client = client
        self._address = address
        self._name = uuid.uuid4().hex
        self._numbers = itertools.count()
        self.round_trip_s = 0.0

    async def begin(self, within_s: float) -> None:
        """Check that dynamic security answers. Raises NotAdministered."""
        began = time.monotonic()
        await self.ask([{"command": "getDefaultACLAccess"}], within_s)
        self.round_trip_s = time.monotonic() - began

    async def ask(self, commands: Sequence[Command], within_s: float = ANSWER_S) -> list[CommandAnswer]:
        """Send the commands in one message; return the answer to each. Raises BrokerError if one is missing."""
        tags = [f"{self._name}-{next(self._numbers)}" for _ in commands]
        tagged = [{**command, "correlationData": tag} for command, tag in zip(commands, tags, strict=True)]
        answers: dict[str, CommandAnswer] = {}
        try:
            async with asyncio.timeout(within_s):
                await self._client.publish(TOPIC, msgspec.json.encode({"commands": tagged}), qos=1, timeout=within_s)
                while not answers.keys() >= set(tags):
                    answers |= await self._answers()
        except TimeoutError as error:
            raise NotAdministered(
                f"dynamic security of the broker at {self._address} did not respond within {within_s:g} s: is "
                "Mosquitto's plugin mosquitto_dynamic_security.so loaded, and may the user of "
                f"DEVICESTAT_MQTT_ADMIN_URL publish to {TOPIC}?"
            ) from error
        return [answers[tag] for tag in tags]

    async def _answers(self) -> dict[str, CommandAnswer]:
        """Return the answers in the next message by correlationData, also those to other administrators."""
        message = await anext(self._client.messages)
        assert isinstance(message.payload, bytes), "aiomqtt delivers bytes"
        try:
            return {answer.correlation: answer for answer in _decoder.decode(message.payload).responses}
        except msgspec.MsgspecError as error:
            raise NotAdministered(
                f"the broker at {self._address} sent a message on {RESPONSES} that is not a response of dynamic "
                f"security: {error}"
            ) from error

    async def do(self, commands: Sequence[Command]) -> list[CommandRefused]:
        """Send the commands; return those that were refused. Raises BrokerError."""
        answers = zip(commands, await self.ask(commands), strict=True)
        return [CommandRefused(command, answer.error) for command, answer in answers if answer.error is not None]

    async def clients(self) -> AsyncIterator[DynsecClient]:
        """Return all clients."""
        async for data in self._listed("listClients"):
            for client in data.clients:
                yield client

    async def roles(self) -> AsyncIterator[DynsecRole]:
        """Return all roles."""
        async for data in self._listed("listRoles"):
            for role in data.roles:
                yield role

    async def default_access(self) -> dict[str, bool]:
        """Return the default access by ACL type."""
        (answer,) = await self.ask([{"command": "getDefaultACLAccess"}])
        return {access.acltype: access.allow for access in answer.data.acls}

    async def _listed(self, command: str) -> AsyncIterator[Any]:
        """Return the pages of a list. Entries that change meanwhile may be missing or occur twice."""
        for offset in itertools.count(step=PAGE):
            (answer,) = await self.ask([{"command": command, "verbose": True, "count": PAGE, "offset": offset}])
            yield answer.data
            if len(answer.data.clients or answer.data.roles) < PAGE:
                return


@asynccontextmanager
async def administering(address: MqttAddress, *, first_answer_s: float = FIRST_ANSWER_S) -> AsyncIterator[Dynsec]:
    """Open a connection to dynamic security for the block.

    Raises BrokerError if that fails, or if the connection breaks within the block.
    """
    try:
        async with mqtt_client(address, "admin") as client:
            granted = await client.subscribe(RESPONSES, qos=1)
            if any(_value(code) >= _FAILURES for code in granted):
                raise NotAdministered(
                    f"the broker at {address} does not let the user of DEVICESTAT_MQTT_ADMIN_URL subscribe to "
                    f"{RESPONSES}: give the user the role admin, which `devicestat broker init` defines"
                )
            dynsec = Dynsec(client, address)
            await dynsec.begin(first_answer_s)
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
