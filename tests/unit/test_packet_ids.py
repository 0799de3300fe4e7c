"""How the broker's allocation of packet ids becomes known."""

from collections.abc import Sequence

import pytest

from ingestor.delivery.packet_ids import PACKET_IDS, PacketIds


def shown(*packet_ids: int, known: bool | None = None) -> PacketIds:
    """After the first connection of a session."""
    ids = PacketIds(known)
    ids.begin()
    for packet_id in packet_ids:
        ids.note(packet_id)
    return ids


def connected(ids: PacketIds, redelivered: Sequence[int], new: int) -> bool | None:
    """Return what is known after another connection has brought these packets, a PINGRESP and one more packet."""
    ids.begin()
    for packet_id in redelivered:
        ids.note_redelivered(packet_id)
    ids.note(new)
    ids.note(new + 1, is_confirmed=True)
    return ids.in_sequence


def test_a_sequence_within_a_connection_proves_nothing() -> None:
    assert shown(*range(1, 1000)).in_sequence is None


@pytest.mark.parametrize("again", [1, 2, 3])
def test_an_id_that_goes_back_shows_that_ids_are_reused(again: int) -> None:
    assert shown(1, 2, 3, again).in_sequence is False
    assert shown(1, 2, 3, again, known=True).in_sequence is False


def test_the_cycle_of_ids_goes_on_and_may_skip_some() -> None:
    assert shown(PACKET_IDS - 1, PACKET_IDS, 1, 2, 10, 11, known=True).in_sequence is True


@pytest.mark.parametrize("redelivered", [[], [93, 94, 95], [93, 94, 95, 96, 97]])
def test_ids_that_go_on_over_a_connection_are_in_sequence(redelivered: list[int]) -> None:
    last = max([95, *redelivered])
    assert connected(shown(*range(1, 96)), redelivered, last + 1) is True


def test_ids_that_begin_anew_are_not() -> None:
    assert connected(shown(*range(1, 96)), [94, 95], 1) is False


def test_the_next_id_proves_nothing_where_all_ids_below_are_in_use() -> None:
    """A broker that begins at 1 would give the same one."""
    assert connected(shown(*range(1, 9)), range(1, 9), 9) is None


def test_messages_that_were_never_sent_before_may_have_dup_set() -> None:
    """mochi: eight packets are unacknowledged, and 87 more have waited."""
    assert connected(shown(*range(1, 96)), [*range(88, 96), *range(1, 88)], 96) is None


def test_a_redelivery_after_a_new_message_shows_that_the_ids_below_were_in_use() -> None:
    ids = shown(1, 2, 3)
    assert connected(ids, [], 4) is True
    ids.note_redelivered(1)
    assert ids.in_sequence is False


def test_the_next_id_proves_nothing_until_the_redelivery_is_over() -> None:
    """A broker began a connection with new messages: id 4 came before 1, 2 and 3, which were in use again."""
    ids = shown(1, 2, 3)
    ids.begin()
    ids.note(4)
    assert (ids.in_sequence, ids.is_candidate) == (None, True)
    ids.note(5)
    assert ids.in_sequence is None
    ids.note_redelivered(1)
    assert ids.in_sequence is False


def test_a_redelivery_in_reverse_order_shows_nothing() -> None:
    ids = shown(1, 2, 3)
    ids.begin()
    for packet_id in (5, 4, 3, 2, 1):
        ids.note_redelivered(packet_id)
    assert ids.in_sequence is None
    assert ids.is_ahead(6)
    assert not ids.is_ahead(5)


def restored(*packet_ids: int, redelivered: Sequence[int] = (), known: bool | None = True) -> PacketIds:
    """After ids up to 95, a connection brings these packets."""
    ids = shown(*range(1, 96), known=known)
    ids.begin()
    for packet_id in redelivered:
        ids.note_redelivered(packet_id)
        ids.note_unordered(packet_id)
    for packet_id in packet_ids:
        ids.note(packet_id, is_confirmed=True)
    return ids


@pytest.mark.parametrize("redelivered", [[], [60, 61]])
def test_ids_in_sequence_that_go_back_when_a_connection_begins_may_be_those_of_a_restored_broker(
    redelivered: list[int],
) -> None:
    ids = restored(62, 63, 64, redelivered=redelivered)
    assert ids.in_sequence is None
    assert connected(ids, [64], 65) is True


def test_a_restored_broker_may_be_restored_again() -> None:
    ids = restored(62, 63)
    assert connected(ids, [], 64) is True
    ids.begin()
    ids.note(62)
    assert ids.in_sequence is None


def test_ids_that_go_back_to_the_lowest_ones_are_reused() -> None:
    assert restored(1).in_sequence is False
    assert restored(3, redelivered=[1, 2]).in_sequence is False


def test_ids_that_go_back_twice_on_a_connection_are_reused() -> None:
    assert restored(62, 63, 62).in_sequence is False


def test_ids_that_go_back_are_reused_if_they_were_not_known_to_be_in_sequence() -> None:
    assert restored(62, known=None).in_sequence is False
    assert restored(62, known=False).in_sequence is False


def test_redelivered_ids_that_go_back_are_those_from_which_ids_go_on() -> None:
    """The next connection's first id seemed to go back again, from 95, and ids counted as reused."""
    ids = restored(redelivered=[60, 61])
    assert ids.is_ahead(62)
    assert connected(ids, [], 62) is True
