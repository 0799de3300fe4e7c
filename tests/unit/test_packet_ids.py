"""How the broker's allocation of packet ids becomes known."""

import pytest

from ingestor.packet_ids import PACKET_IDS, PacketIds


def shown(*packet_ids: int, known: bool | None = None) -> PacketIds:
    ids = PacketIds(known)
    for packet_id in packet_ids:
        ids.note(packet_id)
    return ids


def test_nothing_is_known_at_the_beginning() -> None:
    assert shown(1, 2, 3).in_sequence is None


@pytest.mark.parametrize("again", [1, 2, 3])
def test_an_id_that_goes_back_shows_that_ids_are_reused(again: int) -> None:
    assert shown(1, 2, 3, again).in_sequence is False
    assert shown(1, 2, 3, again, known=True).in_sequence is False


def test_the_cycle_of_ids_goes_on_and_may_skip_some() -> None:
    assert shown(PACKET_IDS - 1, PACKET_IDS, 1, 2, 10, 11, known=True).in_sequence is True


def test_an_id_that_is_passed_over_although_it_is_free_shows_a_sequence() -> None:
    ids = shown(1, 2, 3)
    ids.note_free(2)
    ids.note(4)
    assert ids.in_sequence is True


def test_the_lowest_free_id_shows_that_ids_are_reused() -> None:
    ids = shown(1, 2, 3)
    ids.note_free(2)
    ids.note(2)
    assert ids.in_sequence is False


def test_without_a_silence_more_packets_must_follow_than_were_in_flight() -> None:
    ids = shown(1, 2, 3)
    ids.note_acknowledged(1)
    for packet_id in range(4, 104):
        ids.note(packet_id)
        ids.look_back(100)
        assert ids.in_sequence is None
    ids.note(104)
    ids.look_back(100)
    assert ids.in_sequence is True


def test_an_id_beyond_the_window_shows_a_sequence() -> None:
    ids = shown(*range(1, 17))
    ids.note_window(16)
    assert ids.in_sequence is None
    ids.note(17)
    ids.note_window(16)
    assert ids.in_sequence is True


def test_a_redelivery_in_reverse_order_shows_nothing() -> None:
    ids = shown(1, 2, 3)
    for packet_id in (5, 4, 3, 2, 1):
        ids.note_redelivered(packet_id)
    assert ids.in_sequence is None
    assert ids.is_next(6)
