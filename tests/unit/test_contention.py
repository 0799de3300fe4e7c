"""Another client with the ingestor's client id is distinguished from a broker that restarts."""

import pytest

from ingestor.session.contention import HELD_S, LONGEST_PAUSE_S, SILENT_CLOSES, Contention
from shared.errors import BrokerError, BrokerUnreachable, ClientIdContended, ConnectionClosed, StaleConnection
from shared.settings import MqttAddress

SILENT = ConnectionClosed("closed", was_accepted=True)
TOLD = ConnectionClosed("disconnected: session taken over", was_accepted=True, taken_over=True)


@pytest.fixture
def contention() -> Contention:
    return Contention(MqttAddress(host="broker", port=1883), "ours")


def judged(contention: Contention, *errors: BrokerError, held_s: float = 1.0) -> BrokerError:
    """Return the error that is reported for the last of these errors."""
    return [contention.judge(error, held_s) for error in errors][-1]


def test_the_broker_tells_it_at_once(contention: Contention) -> None:
    error = judged(contention, TOLD)
    assert isinstance(error, ClientIdContended)
    assert "broker:1883 with the client id 'ours'" in str(error)
    assert contention.pause_s == 2


def test_a_broker_that_only_closes_is_suspected_after_some_times(contention: Contention) -> None:
    assert judged(contention, *[SILENT] * (SILENT_CLOSES - 1)) is SILENT
    assert contention.pause_s == 0
    error = judged(contention, SILENT)
    assert isinstance(error, ClientIdContended)
    assert f"closed {SILENT_CLOSES} connections in a row" in str(error)
    assert contention.pause_s == 2


def test_the_pauses_grow_to_a_bound(contention: Contention) -> None:
    pauses = []
    for _ in range(12):
        judged(contention, TOLD)
        pauses.append(contention.pause_s)
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_session_that_was_lost_with_it_changes_nothing(contention: Contention) -> None:
    """A client that connects with Clean Start ends the ingestor's session as well."""
    for _ in range(SILENT_CLOSES):
        judged(contention, SILENT, StaleConnection("lost"))
    assert contention.is_suspected


@pytest.mark.parametrize(
    ("error", "held_s"),
    [
        (SILENT, HELD_S),
        (BrokerUnreachable("refused"), 1.0),
        (ConnectionClosed("closed", was_accepted=False), 1.0),
    ],
    ids=["a connection that held", "a broker that is away", "a broker that does not accept us"],
)
def test_other_faults_are_no_other_client(contention: Contention, error: BrokerError, held_s: float) -> None:
    judged(contention, *[SILENT] * (SILENT_CLOSES - 1))
    assert judged(contention, error, held_s=held_s) is error
    assert judged(contention, SILENT) is SILENT
    assert not contention.is_suspected
