"""Redelivery while it is not known how a broker allocates packet ids: the id of the next new message may show it
(ADR 34)."""

import random

import pytest

from ingestor.delivery.packet_ids import PacketIds
from ingestor.delivery.redelivery import ENOUGH
from tests.unit.test_redelivery import IDS, MOSQUITTO, History, Kind, _begin, _settle

SHARED = Kind(is_shared=True)
RESTARTS = Kind(restarts=True, hands_over=True)
LOWEST = Kind(in_sequence=False, hands_over=True)


STORED = 12
"""Messages that are stored on the first connection: four are acknowledged."""


def _store(history: History, acknowledged: int) -> None:
    """Store messages. The broker receives the first acknowledgements, and the rest are lost."""
    history.devices_publish(b"a", STORED)
    history.packets_arrive(STORED)
    history.a_batch_is_committed()
    assert history.journal.held == ENOUGH
    history.the_broker_reads(acknowledged)


def _is_killed(history: History) -> None:
    history.the_connection_breaks(0, crash=True)


def _twice(history: History) -> list[int]:
    history.teardown()
    return sorted({message for message in history.stored if history.stored.count(message) > 1})


@pytest.mark.parametrize(("acknowledged", "unread"), [(2, 0), (3, 1), (4, 0), (4, 2)])
@pytest.mark.parametrize("kills", [1, 3])
def test_the_next_message_shows_what_is_stored_after_a_connection_that_brought_nothing(
    acknowledged: int, unread: int, kills: int
) -> None:
    """A member of a shared subscription was killed before it had stored anything on its second connection. The eight
    messages whose acknowledgements were held back were stored twice."""
    history = _begin(SHARED)
    _store(history, acknowledged)
    for _ in range(kills):
        _is_killed(history)
        history.packets_arrive(100)
    history.devices_publish(b"a", unread)
    _is_killed(history)
    history.packets_arrive(100)
    before = history.counts.ambiguous
    history.devices_publish(b"a", 1)
    history.packets_arrive(1)
    history.a_batch_is_committed()
    assert history.counts.ambiguous == before
    assert _twice(history) == []


def test_without_a_next_message_they_are_stored_again() -> None:
    """Nothing distinguishes them from new messages under the ids of messages that were handed over."""
    history = _begin(SHARED)
    _store(history, STORED)
    for _ in range(2):
        _is_killed(history)
    history.packets_arrive(100)
    before = history.counts.ambiguous
    _settle(history)
    assert history.counts.ambiguous == before + ENOUGH
    assert _twice(history) == list(range(STORED - ENOUGH, STORED))


def test_a_next_message_shows_nothing_while_all_lower_ids_are_in_use() -> None:
    """The broker has received no acknowledgement yet. One that begins at 1 would give the same id."""
    history = _begin(SHARED)
    _store(history, 0)
    for _ in range(2):
        _is_killed(history)
    history.devices_publish(b"a", 1)
    history.packets_arrive(100)
    assert _twice(history) == list(range(STORED))


@pytest.mark.parametrize("kind", [RESTARTS, LOWEST])
@pytest.mark.parametrize("acknowledged", [0, 2, 4])
@pytest.mark.parametrize("given", [1, 8, 12])
@pytest.mark.parametrize("given_later", [0, 1, 4, 12])
def test_new_messages_under_the_ids_of_messages_that_were_handed_over_are_stored(
    kind: Kind, acknowledged: int, given: int, given_later: int
) -> None:
    """Messages were given to another member, and new ones, which were not read, had their ids and their payload."""
    history = _begin(kind)
    history.broker.random = random.Random(5)  # gives nothing away by itself
    _store(history, acknowledged)

    def hand_over(count: int, at: int) -> None:
        for _ in range(min(count, len(history.broker.in_flight))):
            history.broker.handed_over.add(history.broker.in_flight.pop(at)[1])

    hand_over(given, -1)
    _is_killed(history)
    history.devices_publish(b"a", 12)
    hand_over(given_later, 0)
    _is_killed(history)
    history.packets_arrive(100)
    for _ in range(3):
        history.devices_publish(b"a", 1)
        history.packets_arrive(100)
    history.teardown()


def test_the_next_message_shows_what_is_stored_after_a_release_that_did_not_arrive() -> None:
    """Without it, the process may have been killed before or after the broker received the acknowledgements."""
    history = _begin(MOSQUITTO)
    _store(history, STORED)
    history.nothing_arrives_for_a_moment()
    history.the_broker_reads(1)
    history.packets_arrive(1)
    history.nothing_arrives_for_a_moment()
    assert history.journal.held == 0
    _is_killed(history)
    history.devices_publish(b"a", 1)
    history.packets_arrive(100)
    assert _twice(history) == []


def test_no_more_packets_wait_than_the_journal_can_hold() -> None:
    history = _begin(SHARED)
    _store(history, STORED)
    history.devices_publish(b"a", 1)
    history.devices_publish(b"b", IDS // 4 - ENOUGH)
    for _ in range(2):
        _is_killed(history)
    history.packets_arrive(IDS // 4)
    assert len(history.deliveries._undecided) == IDS // 4
    history.packets_arrive(1)
    assert not history.deliveries.has_undecided
    assert _twice(history) == list(range(STORED - ENOUGH, STORED))


@pytest.mark.parametrize(
    ("redelivered", "new", "shown"),
    [
        ([], 21, True),
        ([13, 14, 20], 21, True),
        ([13, 20, 21, 22], 23, True),
        ([13, 20], 22, False),
        ([13, 20], 1, False),
        ([13, 20], 13, False),
        (list(range(1, 21)), 21, False),
        (list(range(2, 21)), 21, True),
    ],
)
def test_an_id_that_follows_the_last_one_shows_a_sequence_while_a_lower_one_is_free(
    redelivered: list[int], new: int, shown: bool
) -> None:
    ids = PacketIds(last=20)
    ids.begin()
    for packet_id in redelivered:
        ids.note_redelivered(packet_id)
    assert ids.shows_sequence(new) is shown
    ids.note(new)
    assert not ids.shows_sequence(new + 1)
