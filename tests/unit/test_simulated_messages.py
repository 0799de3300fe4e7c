"""Messages of the simulated devices."""

import itertools
import json
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from deploy.local.up import DEMO_DEVICES, DEMO_RATE
from deploy.simulate.devices import HISTORY_MESSAGE, HISTORY_STEP_S, Plan, history, live, within
from ingestor.payload.decode import Measurement, decode
from query_api.readings.plots import gaps
from shared.readings.model import SECOND

if TYPE_CHECKING:
    from deploy.terminal import Terminal

NOW = 1_767_268_801.5
TOPICS = ["devices/sim-1/stats", "devices/sim-2/stats"]


def test_devices_take_turns_at_the_rate() -> None:
    plan = Plan(devices=2, rate=4)
    messages = list(itertools.islice(live(plan, TOPICS, NOW), 5))
    assert [due - NOW for due, _ in messages] == [0, 0.25, 0.5, 0.75, 1]
    assert [message.topic for _, message in messages] == [*TOPICS, *TOPICS, TOPICS[0]]
    assert [json.loads(message.payload)["timestamp"] for _, message in messages] == [due for due, _ in messages]


def test_the_count_is_of_readings() -> None:
    assert len(list(live(Plan(devices=2, rate=1, count=7), TOPICS, NOW))) == 7
    assert not list(live(Plan(devices=2, rate=1, count=0), TOPICS, NOW))


def test_history_covers_the_hours_before_now_for_each_device() -> None:
    plan = Plan(devices=2, rate=1, history_h=3)
    messages = list(history(plan, TOPICS, NOW))
    for topic in TOPICS:
        moments = [
            reading["timestamp"]
            for message in messages
            if message.topic == topic
            for reading in json.loads(message.payload)
        ]
        assert len(moments) == 3 * 3600 // HISTORY_STEP_S
        assert moments == sorted(set(moments))
        assert NOW - 3 * 3600 <= moments[0] <= moments[-1] <= NOW
    assert max(message.readings for message in messages) == HISTORY_MESSAGE


def test_history_counts_too() -> None:
    for count in (0, 3, HISTORY_MESSAGE, HISTORY_MESSAGE + 3):
        messages = history(Plan(devices=2, rate=1, count=count, history_h=3), TOPICS, NOW)
        assert sum(message.readings for message in messages) == count


def test_a_repeated_history_is_equal() -> None:
    """So a second start adds only new readings."""
    plan = Plan(devices=1, rate=1, history_h=1)

    def told(now: float) -> dict[float, str]:
        readings = itertools.chain(*(json.loads(m.payload) for m in history(plan, TOPICS[:1], now)))
        return {reading["timestamp"]: json.dumps(reading) for reading in readings}

    earlier, later = told(NOW), told(NOW + 1000)
    common = earlier.keys() & later.keys()
    assert len(common) == len(earlier) - 100
    assert all(earlier[moment] == later[moment] for moment in common)


def test_the_ingestor_takes_all_of_it() -> None:
    plan = Plan(devices=2, rate=10, count=20, history_h=2)
    messages = [*history(plan, TOPICS, NOW), *(message for _, message in live(plan, TOPICS, NOW))]
    for message in messages:
        decoded = decode(message.payload, None, int(NOW * SECOND), 3 * 3600 * SECOND)
        assert len(decoded) == message.readings
        assert all(isinstance(result, Measurement) for result in decoded)


def test_history_is_no_longer_than_readings_are_taken() -> None:
    said: list[str] = []
    terminal = cast("Terminal", SimpleNamespace(say=said.append))
    plan = Plan(devices=1, rate=1, history_h=100)
    assert within(plan, timedelta(days=10), terminal) == plan
    assert not said
    assert within(plan, timedelta(days=3), terminal).history_h == 71
    assert "71 hours" in said[0]
    assert within(plan, timedelta(minutes=5), terminal).history_h == 0


def test_the_history_of_the_demo_is_no_series_of_gaps_beside_its_live_readings() -> None:
    """Even if a clock of a live device is a tenth off."""
    distance = DEMO_DEVICES / DEMO_RATE
    assert gaps.FACTOR * distance * 0.9 > HISTORY_STEP_S
