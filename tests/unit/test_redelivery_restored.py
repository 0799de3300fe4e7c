"""Redelivery by a broker whose packet ids have gone back, or have skipped nearly a cycle (ADR 34)."""

import random

import pytest

from ingestor.delivery.redelivery import ENOUGH
from tests.unit.test_redelivery import (
    IDS,
    MOSQUITTO,
    History,
    Kind,
    _begin,
    _begin_in_sequence,
    _settle,
)


def _store(history: History, count: int) -> None:
    history.devices_publish(b"a", count)
    history.packets_arrive(count)
    _settle(history)


def _restore(history: History, last_id: int, in_flight: list[tuple[int, int]]) -> None:
    """Kill the broker, and restore it from an older state. The connection breaks."""
    history.broker.last_id, history.broker.in_flight = last_id, list(in_flight)
    history.connection.written.clear()
    history.the_connection_breaks(0, crash=False)


def test_a_connection_that_brings_only_stored_messages_hides_no_new_ones() -> None:
    """A restored broker redelivered two stored messages. Five new ones, which were not read, had the next ids, and were
    lost."""
    history = _begin_in_sequence()
    history.devices_publish(b"a", 2)
    saved, saved_id = list(history.broker.in_flight), history.broker.last_id
    history.packets_arrive(2)
    _settle(history)
    _store(history, 10)
    _restore(history, saved_id, saved)
    history.packets_arrive(2)
    _settle(history)
    history.devices_publish(b"a", 5)
    history.the_connection_breaks(0, crash=False)
    history.teardown()


def test_a_connection_whose_connack_is_lost_hides_no_new_messages() -> None:
    """The journal had no entry of the connection on which a restored broker sent five new messages: they were lost."""
    history = _begin_in_sequence()
    saved_id = history.broker.last_id
    _store(history, 10)
    history.broker.last_id = saved_id
    history.a_connack_is_lost(b"a", 5, crash=True)
    history.teardown()


def test_a_message_at_qos_0_hides_no_new_messages() -> None:
    """A connection brought nothing else, and five new messages of a restored broker were lost."""
    history = _begin_in_sequence()
    saved_id = history.broker.last_id
    _store(history, 10)
    _restore(history, saved_id, [])
    history.a_message_at_qos_0_arrives(b"a")
    history.a_batch_is_committed()
    history.devices_publish(b"a", 5)
    history.the_connection_breaks(0, crash=False)
    history.teardown()


def test_messages_that_a_full_queue_drops_may_use_most_of_a_cycle() -> None:
    """Mosquitto uses an id for each of them. Five messages after them, which were not read, had ids of stored ones, and
    were lost."""
    history = _begin_in_sequence()
    _store(history, 12)
    history.devices_publish(b"a", 2)
    history.broker.last_id = (history.broker.last_id + 30 - 1) % IDS + 1
    history.packets_arrive(2)
    _settle(history)
    history.devices_publish(b"a", 5)
    history.the_connection_breaks(0, crash=False)
    history.teardown()


def test_ids_of_the_journal_behind_its_end_belong_to_new_messages() -> None:
    """The last stored message was redelivered. The messages behind it had ids of stored ones, since the queue had
    dropped others between them: they counted as stored, and were lost."""
    history = _begin_in_sequence()
    _store(history, 12)
    history.devices_publish(b"a", 1)
    history.packets_arrive(1)
    history.a_batch_is_committed()
    history.broker.last_id = (history.broker.last_id + 30 - 1) % IDS + 1
    history.devices_publish(b"a", 5)
    history.the_connection_breaks(0, crash=False)
    history.teardown()


def test_a_message_under_the_last_id_with_another_payload_proves_nothing() -> None:
    """A restored broker gave the journal's last id to a message with another payload: those before it are new, too."""
    history = _begin_in_sequence()
    saved_id = history.broker.last_id
    _store(history, 5)
    _restore(history, saved_id, [])
    history.devices_publish(b"a", 4)
    history.devices_publish(b"b", 3)
    history.the_connection_breaks(0, crash=False)
    history.teardown()


def test_the_next_new_message_shows_that_the_last_stored_one_has_expired() -> None:
    history = _begin_in_sequence()
    history.devices_publish(b"a", 6)
    history.packets_arrive(6)
    history.a_batch_is_committed()
    history.broker.in_flight.pop()
    history.the_connection_breaks(0, crash=True)
    history.devices_publish(b"a", 1)
    history.teardown()
    assert len(history.stored) == len(set(history.stored))


def test_a_message_that_is_given_away_while_a_connack_is_lost_may_leave_its_id_to_another() -> None:
    """The journal had no entry of the connection on which a new message got the id, and the message was lost."""
    history = _begin(Kind(in_sequence=False, hands_over=True, window=16))
    history.broker.random = random.Random(5)  # gives nothing away by itself
    history.devices_publish(b"a", 8)
    history.packets_arrive(8)
    history.a_batch_is_committed()
    history.broker.handed_over.add(history.broker.in_flight.pop()[1])
    history.a_connack_is_lost(b"a", 1, crash=False)
    history.teardown()


def test_ids_are_in_sequence_again_after_a_broker_was_restored() -> None:
    """The id that went back made them count as reused. Then one release by chance ended the holding back, and a cut
    stored a window twice."""
    history = _begin_in_sequence()
    saved_id = history.broker.last_id
    _store(history, 10)
    _restore(history, saved_id, [])
    _store(history, 1)
    assert history.journal.packet_ids.in_sequence is None
    _store(history, 12)  # after a release
    history.devices_publish(b"a", 12)
    history.packets_arrive(12)
    history.a_batch_is_committed()
    history.the_connection_breaks(0, crash=True)
    history.packets_arrive(12)
    for _ in range(2):
        _store(history, 1)
    assert history.journal.packet_ids.in_sequence
    history.teardown()
    assert len(history.stored) == len(set(history.stored))


def test_what_was_saved_before_it_was_stored_is_stored_again_and_counted() -> None:
    """The allocation is not known yet, and the broker redelivers five messages that it had saved unacknowledged."""
    history = _begin(MOSQUITTO)
    history.devices_publish(b"a", 5)
    saved, saved_id = list(history.broker.in_flight), history.broker.last_id
    for count in (5, 12):
        history.packets_arrive(count)
        history.a_batch_is_committed()
        history.devices_publish(b"a", 12)
    history.the_broker_reads(100)
    before = history.counts.ambiguous
    _restore(history, saved_id, saved)
    history.packets_arrive(5)
    _settle(history)
    assert history.counts.ambiguous == before + 5
    assert history.stored.count(0) == 2


def _drop(skipped: int) -> History:
    """Return a history in which a full queue has dropped messages behind a stored one."""
    history = _begin(Kind(drops=True, is_known=True, window=16))
    history.devices_publish(b"a", 1)
    history.packets_arrive(1)
    history.the_ingestor_is_restarted()
    history.the_queue_is_full(skipped)
    return history


def _redeliver_twice(history: History, count: int) -> set[int]:
    """Redeliver the next messages: first because nobody has read them, then because their acknowledgements are lost.
    Return the messages that are stored twice."""
    history.a_connack_is_lost(b"a", count, crash=False)
    history.packets_arrive(count)
    history.a_connack_is_lost(b"a", 0, crash=False)
    history.packets_arrive(count)
    history.a_batch_is_committed()
    history.nothing_is_stored_twice()
    excused = set(history.excused)
    history.teardown()
    twice = {message for message in history.stored if history.stored.count(message) > 1}
    assert twice <= excused
    return twice


@pytest.mark.parametrize("count", [1, 2, ENOUGH - 1])
def test_a_message_after_half_a_cycle_of_dropped_ones_is_stored_again_and_counted(count: int) -> None:
    """Its id seems to go back, as on a restored broker. The messages behind it were stored twice, too."""
    history = _drop(IDS // 2)
    before = history.counts.ambiguous
    assert _redeliver_twice(history, count) == {1}
    assert history.counts.ambiguous == before + 1


def test_enough_messages_after_half_a_cycle_of_dropped_ones_are_not_stored_again() -> None:
    """They return in the order in which they were recorded, which shows the place of the first one."""
    assert not _redeliver_twice(_drop(IDS // 2), ENOUGH)


@pytest.mark.parametrize("count", [1, 2, ENOUGH])
def test_no_message_after_fewer_dropped_ones_is_stored_again(count: int) -> None:
    history = _drop(IDS // 2 - 1)
    assert not _redeliver_twice(history, count)
    assert history.journal.packet_ids.in_sequence


def test_redelivered_messages_whose_ids_went_back_do_not_make_ids_count_as_reused() -> None:
    """A connection brought nothing else. The id of the next new message seemed to go back again, from the id before the
    dropped messages, and ids counted as reused for the rest of the session."""
    history = _drop(IDS // 2)
    history.a_connack_is_lost(b"a", 2, crash=False)
    history.packets_arrive(2)
    assert history.journal.packet_ids.in_sequence is None
    _settle(history)
    history.the_connection_breaks(0, crash=False)
    for _ in range(2):
        _store(history, 1)
    assert history.journal.packet_ids.in_sequence
    history.teardown()
    assert len(history.stored) == len(set(history.stored))
