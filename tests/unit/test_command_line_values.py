"""Parsing of option values."""

import re
from datetime import UTC, datetime, timedelta

import click
import pytest

from deploy.cli.dead_letters import moment, topic_filter
from shared.dead_letters.selection import topic_pattern


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:30", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("2026-01-31T12:30:00+02:00", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("2026-01-31T12:30:00.25Z", datetime(2026, 1, 31, 12, 30, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_utc(value: str, meant: datetime) -> None:
    assert moment(value) == meant


@pytest.mark.parametrize(
    ("value", "ago"), [("90m", timedelta(minutes=90)), ("2h", timedelta(hours=2)), ("7d", timedelta(days=7))]
)
def test_a_time_can_be_so_long_ago(value: str, ago: timedelta) -> None:
    assert abs(datetime.now(UTC) - ago - moment(value)) < timedelta(seconds=5)


@pytest.mark.parametrize("value", ["", "yesterday", "2h30m", "-1h", "2026-13-01", "9999999d", "999999d"])
def test_what_is_no_time_is_refused_with_an_example(value: str) -> None:
    with pytest.raises(click.BadParameter, match="2026-01-31T12:00"):
        moment(value)


@pytest.mark.parametrize(
    ("given", "topic", "fits"),
    [
        ("devices/1/stats", "devices/1/stats", True),
        ("devices/1/stats", "devices/1/stats/more", False),
        ("devices/+/stats", "devices/a.b/stats", True),
        ("devices/+/stats", "devices//stats", True),
        ("devices/+/stats", "devices/a/b/stats", False),
        ("devices/a.b/stats", "devices/axb/stats", False),
        ("devices/#", "devices/1/stats", True),
        ("devices/#", "devices", True),
        ("devices/#", "other/1", False),
        ("#", "anything/at all", True),
        ("a.(b", "a.(b", True),
    ],
)
def test_a_topic_filter_selects_as_in_mqtt(given: str, topic: str, fits: bool) -> None:
    assert bool(re.search(topic_pattern(topic_filter(given)), topic)) is fits


@pytest.mark.parametrize("value", ["", "devices/#/x", "devices/a+/stats", "devices/a#", "##", "a\0b"])
def test_a_topic_filter_that_mqtt_forbids_is_refused_with_an_example(value: str) -> None:
    with pytest.raises(click.BadParameter, match=r"devices/\+/stats"):
        topic_filter(value)
