"""The doctor's conclusion from a broker's redelivery."""

import pytest

from deploy.doctor.trials.promise import Delivery, Observed, explain
from shared.status.findings import Finding, Severity

SENT = tuple(Delivery(number, 5 + number, duplicate=False) for number in range(4))
SAME = tuple(Delivery(one.number, one.packet_id, duplicate=True) for one in SENT)
LOWEST_FREE = (Delivery(10, 5, duplicate=False),)


def said(again: tuple[Delivery, ...], before: tuple[Delivery, ...] = (), sent: tuple[Delivery, ...] = SENT) -> Finding:
    (finding,) = explain(Observed(acknowledged=before, unacknowledged=sent, again=again, left=4))
    return finding


def test_exactly_once() -> None:
    finding = said(SAME)
    assert finding.severity is Severity.OK
    assert finding.text.startswith("exactly once: ")
    assert (
        "with the same packet ids, in the order sent, with DUP set; it assigns packet ids in sequence" in finding.text
    )


@pytest.mark.parametrize(
    ("again", "before", "words"),
    [
        (
            tuple(Delivery(one.number, 50 + one.number, duplicate=False) for one in SENT),
            (),
            "new packet ids, in the order sent, without DUP",
        ),
        (SENT, (), "with the same packet ids, in the order sent, without DUP"),
        (SAME[::-1], (), "with the same packet ids, in another order, with DUP set"),
        (SAME, LOWEST_FREE, "in the order sent, with DUP set; it assigns packet ids again as soon as they are free"),
        (SAME[::-1], LOWEST_FREE, "in another order, with DUP set; it assigns packet ids again as soon as they"),
    ],
    ids=["Artemis", "no DUP", "rmqtt and mochi", "HiveMQ", "ids that recur, out of order"],
)
def test_at_least_once(again: tuple[Delivery, ...], before: tuple[Delivery, ...], words: str) -> None:
    finding = said(again, before)
    assert finding.severity is Severity.WARNING
    assert finding.text.startswith("at least once: ")
    assert words in finding.text
    assert "with a timestamp in the payload it is stored exactly once" in finding.text


def test_what_does_not_come_again_is_lost() -> None:
    finding = said(SAME[:3])
    assert finding.severity is Severity.WRONG
    assert "of 4 messages that a lost connection left unacknowledged, the broker did not redeliver 1" in finding.text


def test_retransmission_on_a_live_connection_and_a_small_window_are_shown() -> None:
    finding = said(SAME[:2], sent=(*SENT[:2], SAME[0]))
    assert finding.severity is Severity.OK
    assert "it also retransmits on a live connection" in finding.text
    assert "it sends 2 messages before it waits for an acknowledgement" in finding.text


def test_first_deliveries_after_the_return_say_nothing() -> None:
    """mochi sets DUP on them as well."""
    assert said((Delivery(9, 40, duplicate=True), *SAME)).severity is Severity.OK
