"""Rates, increases and quantiles of the last minute, as processes report them."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from shared.status.samples import INFINITE, buckets, by_label, quantile, read, samples_of, value
from shared.status.window import Window


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_is_over_the_last_minute() -> None:
    clock = Clock()
    window = Window(clock=clock)
    assert window.rate("readings") == 0
    for second in range(5, 301, 5):
        clock.now = 100.0 + second
        window.add({"readings": 10.0 * second if second <= 150 else 1500.0})
        if second == 60:
            assert window.rate("readings") == 10
        if second == 180:
            assert window.increase("readings") == pytest.approx(300)
    assert window.rate("readings") == 0


def test_a_late_report_does_not_raise_the_rate() -> None:
    """Without reports for two minutes, the increase is divided by the time in which it happened."""
    clock = Clock()
    window = Window(clock=clock)
    clock.now = 220.0
    window.add({"readings": 1200.0})
    assert window.rate("readings") == 10


def test_increases_by_reason_leave_out_what_did_not_grow() -> None:
    clock = Clock()
    window = Window(clock=clock)
    for second, malformed in ((5, 3), (70, 3), (130, 3)):
        clock.now = 100.0 + second
        window.add({"refused malformed": malformed, "refused out_of_range": second})
    assert window.increases("refused ") == {"out_of_range": 60}


def test_a_quantile_interpolates_in_its_bucket() -> None:
    counts = {0.1: 0.0, 0.5: 50.0, 1.0: 100.0, INFINITE: 100.0}
    assert quantile(counts, 0.5) == pytest.approx(0.5)
    assert quantile(counts, 0.75) == pytest.approx(0.75)
    assert quantile(counts, 0.25) == pytest.approx(0.3)


def test_a_quantile_above_the_largest_bound_is_that_bound() -> None:
    assert quantile({1.0: 0.0, INFINITE: 5.0}, 0.99) == 1.0


def test_no_observations_have_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0.0, INFINITE: 0.0}, 0.5) is None
    assert Window().quantile("delay ", 0.99) is None


def test_the_figures_are_those_of_the_metrics() -> None:
    registry = CollectorRegistry()
    ended = Counter("ended", "…", ["outcome"], registry=registry)
    seconds = Histogram("seconds", "…", ["route"], buckets=(1, 2), registry=registry)
    ended.labels("done").inc(3)
    ended.labels("failed").inc()
    for route, duration in (("/a", 0.5), ("/b", 1.5), ("/b", 9)):
        seconds.labels(route).observe(duration)
    assert by_label(samples_of(ended), "_total", "outcome") == {"done": 3, "failed": 1}
    assert buckets(read(registry, "seconds_bucket")) == {1.0: 1, 2.0: 2, INFINITE: 3}
    plain = Counter("plain", "…", registry=registry)
    plain.inc(7)
    assert value(plain) == 7
