"""Several ingestors that share the work: `devicestat ingest --processes N`.

Each has a session of its own at the broker, and so a client id and a journal of its own; one shared subscription
deals the messages out to them (MQTT 5, section 4.8.2). The first is the one that would also work alone, so that
going from one process to several, and back, goes on with its session.
"""

from urllib.parse import quote

import msgspec

from ingestor.delivery.journal import TOMBSTONE
from shared.broker.names import PROCESS_SUFFIX
from shared.postgres.connections import Connection
from shared.readings.clock import Clock
from shared.readings.model import Microseconds
from shared.settings import Settings, parse_topic_filter

SHARE = "$share/"
"""What the filter of a shared subscription begins with."""


class Share(msgspec.Struct, frozen=True):
    """Which of so many ingestors one is; numbers begin with 1."""

    number: int
    count: int

    @property
    def step(self) -> Microseconds:
        """From one of its times of receipt to the next one that it may give out."""
        return 2 * self.count

    def clock(self) -> Clock:
        """Clock of receipt: no other ingestor, nor the API, gives the same times (shared.readings.clock)."""
        return Clock(self.step, 2 * (self.number - 1))


ALONE = Share(1, 1)


def draining_clock(position: int, count: int) -> Clock:
    """Of so many that leave the one at the position, from 0: it works beside those that stay."""
    return Clock(4 * count, 4 * position + 3)


def member(settings: Settings, number: int, count: int) -> Settings:
    """The settings of one process of so many; numbers begin with 1."""
    if count == 1:
        return settings
    client_id = settings.mqtt_client_id if number == 1 else f"{settings.mqtt_client_id}{PROCESS_SUFFIX}{number}"
    topic = settings.mqtt_topic if settings.mqtt_topic.group else parse_topic_filter(other_form(settings))
    return msgspec.structs.replace(settings, mqtt_client_id=client_id, mqtt_topic=topic)


def other_form(settings: Settings) -> str:
    """Of a shared subscription the plain one, of a plain one that which our processes share."""
    form = settings.mqtt_topic
    if form.group:
        return form.plain
    return f"{SHARE}{quote(settings.mqtt_client_id, safe='')}/{form.plain}"


_CLIENT_IDS = """
    SELECT client_id FROM (
        SELECT DISTINCT ON (client_id) client_id, writer FROM ingest_journal
        WHERE starts_with(client_id, %s) ORDER BY client_id, batch_no DESC
    ) AS newest
    WHERE writer <> %s
"""


async def departed(connection: Connection, settings: Settings, count: int) -> list[int]:
    """The numbers of processes that have run, are not among so many, and have not left: what the broker holds for
    them waits."""
    prefix = f"{settings.mqtt_client_id}{PROCESS_SUFFIX}"
    cursor = await connection.execute(_CLIENT_IDS, (prefix, TOMBSTONE))
    numbers = [client_id.removeprefix(prefix) for (client_id,) in await cursor.fetchall()]
    return sorted(int(number) for number in numbers if number.isdecimal() and int(number) > count)
