"""The shares of several ingestor processes: `devicestat ingest --processes N`.

Each process has its own broker session, client id and journal; one shared subscription distributes the messages among
them (MQTT 5, section 4.8.2). The first process uses the session of a single ingestor, so changing the number of
processes continues that session.
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
"""Prefix of the filter of a shared subscription."""


class Share(msgspec.Struct, frozen=True):
    """The number of a process, from 1, and the count of processes."""

    number: int
    count: int

    @property
    def step(self) -> Microseconds:
        """Step between its times of receipt."""
        return 2 * self.count

    def clock(self) -> Clock:
        """Return the clock of receipt. No other ingestor, nor the API, gives the same times (shared.readings.clock)."""
        return Clock(self.step, 2 * (self.number - 1))


ALONE = Share(1, 1)


def draining_clock(position: int, count: int) -> Clock:
    """Return the clock of receipt for one of `count` drained sessions, at `position` from 0."""
    return Clock(4 * count, 4 * position + 3)


def member(settings: Settings, number: int, count: int) -> Settings:
    """Return the settings of one process; numbers begin with 1."""
    if count == 1:
        return settings
    client_id = settings.mqtt_client_id if number == 1 else f"{settings.mqtt_client_id}{PROCESS_SUFFIX}{number}"
    topic = settings.mqtt_topic if settings.mqtt_topic.group else parse_topic_filter(other_form(settings))
    return msgspec.structs.replace(settings, mqtt_client_id=client_id, mqtt_topic=topic)


def other_form(settings: Settings) -> str:
    """Return the plain form of a shared topic, or the shared form of a plain one."""
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
    """Return the numbers of removed processes whose sessions are not drained yet. `count`: processes that remain."""
    prefix = f"{settings.mqtt_client_id}{PROCESS_SUFFIX}"
    cursor = await connection.execute(_CLIENT_IDS, (prefix, TOMBSTONE))
    numbers = [client_id.removeprefix(prefix) for (client_id,) in await cursor.fetchall()]
    return sorted(int(number) for number in numbers if number.isdecimal() and int(number) > count)
