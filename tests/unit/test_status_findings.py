"""What the reports of processes show to be wrong."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest

from query_api.web.operating.status.composing import NOT_SHOWN, without_addresses
from shared.serving.telemetry import STARTING, Health, Part
from shared.status.figures import Document, IngestorFigures
from shared.status.findings import Severity
from shared.status.judging import Queue, absent_kinds, judge
from shared.status.process import Kind, State
from shared.status.table import GONE_S, LATE_S, Process, state_at, with_replacements

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIGURES = IngestorFigures(
    messages_per_s=0, readings_per_s=0, stored_per_s=0, duplicates=0, redelivered=0, refused={}, delay_p50_s=None,
    delay_p99_s=None, lag_s=0, in_flight=0, is_paused=False, last_commit_s=None, journal_packets=0, journal_no=0,
    broker_disk_free_bytes=None,
)  # fmt: skip
READY = Document(parts=[Part("database", None, 5.0)])


def process(kind: Kind, name: str = "", age_s: float = 1.0, runs_s: float = 3600.0, **changes: object) -> Process:
    one = Process(
        id=uuid4(), kind=kind, name=name, host="edge-1", pid=7, version="1.0", age_s=age_s, state=state_at(age_s),
        started_at=NOW - timedelta(seconds=runs_s), updated_at=NOW - timedelta(seconds=age_s), document=READY,
    )  # fmt: skip
    return msgspec.structs.replace(one, **changes)


INGESTOR, API, WORKER = process(Kind.INGESTOR, "a"), process(Kind.API, "http://[::]:80"), process(Kind.WORKER)
ALL = [INGESTOR, API, WORKER]


@pytest.mark.parametrize(
    ("age_s", "state"),
    [
        (0, State.RUNNING), (-4, State.RUNNING), (LATE_S, State.RUNNING), (LATE_S + 1, State.LATE),
        (GONE_S, State.LATE), (GONE_S + 1, State.GONE), (-3600, State.LATE),
    ],
)  # fmt: skip
def test_the_state_is_by_the_age_of_the_report(age_s: float, state: State) -> None:
    """A report from the future is from before the clock was set back."""
    assert state_at(age_s) is state


def test_nothing_is_wrong_with_running_processes() -> None:
    assert judge(ALL, Queue()) == []
    assert list(absent_kinds(ALL, Queue())) == []


def test_a_gone_process_is_named_with_the_command_that_starts_it() -> None:
    gone = process(Kind.INGESTOR, "b", age_s=180)
    (finding,) = judge([*ALL, gone], Queue())
    assert finding.severity is Severity.WARNING
    assert finding.text.startswith("the ingestor b on edge-1 (pid 7) reported last 3 minutes ago: it was killed, or")
    assert "start `devicestat ingest` again" in finding.text
    (alone,) = judge([gone, API, WORKER], Queue())
    assert alone.severity is Severity.WRONG


def test_the_host_is_left_out_for_those_who_may_not_see_it() -> None:
    gone = process(Kind.WORKER, age_s=180)
    (finding,) = judge([gone, process(Kind.WORKER, runs_s=500)], Queue(), with_hosts=False)
    assert finding.text.startswith("a worker reported last 3 minutes ago")


def test_the_reason_of_a_fault_is_left_out_for_those_who_may_not_see_hosts() -> None:
    part = Part("broker", "no connection to the MQTT broker at mqtt.internal:1883", 59.0)
    fault = msgspec.structs.replace(INGESTOR, document=Document(parts=[part]))
    (finding,) = judge([without_addresses(fault), WORKER], Queue(), with_hosts=False)
    assert finding.text == f"the ingestor a has not been ready for 60 seconds: broker: {NOT_SHOWN}"
    assert "mqtt.internal" in judge([fault, WORKER], Queue())[0].text
    assert without_addresses(API).name == ""


def test_an_ingestor_that_was_started_again_replaces_the_gone_one() -> None:
    gone = process(Kind.INGESTOR, "a", age_s=60)
    again = process(Kind.INGESTOR, "a", runs_s=50, host="edge-2")
    other = process(Kind.INGESTOR, "b", runs_s=50)
    assert [one.state for one in with_replacements([gone, again])] == [State.REPLACED, State.RUNNING]
    assert with_replacements([gone, other])[0].state is State.GONE
    assert with_replacements([gone, INGESTOR])[0].state is State.GONE  # it started before
    assert judge(with_replacements([gone, again]), Queue()) == []


def test_one_worker_replaces_one_worker() -> None:
    gone = [process(Kind.WORKER, age_s=60), process(Kind.WORKER, age_s=61)]
    again = process(Kind.WORKER, runs_s=50)
    states = [one.state for one in with_replacements([*gone, again])]
    assert states == [State.REPLACED, State.GONE, State.RUNNING]


def test_a_late_process_is_a_warning() -> None:
    (finding,) = judge([API, process(Kind.WORKER, age_s=30), INGESTOR], Queue())
    assert finding.text == "a worker on edge-1 (pid 7) has not reported for 30 seconds: it should every 5 seconds"


def test_an_ingestor_without_broker_is_wrong() -> None:
    parts = [Part("broker", "no connection to the MQTT broker at x:1883", 119.0), Part("database", None, 1.0)]
    (finding,) = judge([process(Kind.INGESTOR, "a", document=Document(parts=parts)), API, WORKER], Queue())
    assert finding.severity is Severity.WRONG
    expected = "the ingestor a on edge-1 (pid 7) has not been ready for 2 minutes: broker: no connection to the MQTT "
    assert finding.text == f"{expected}broker at x:1883"


def test_a_process_may_take_its_time_to_start() -> None:
    starting = Document(parts=[Part("broker", STARTING, 3.0)])
    assert judge([process(Kind.INGESTOR, "a", document=starting)], Queue()) == []
    hanging = Document(parts=[Part("broker", STARTING, 300.0)])
    assert len(judge([process(Kind.INGESTOR, "a", document=hanging)], Queue())) == 1


def test_a_lag_is_a_warning() -> None:
    figures = Document(ingestor=msgspec.structs.replace(FIGURES, lag_s=12.3, in_flight=4))
    (finding,) = judge([process(Kind.INGESTOR, "a", document=figures)], Queue())
    assert "has not committed a reading that it received 12 s ago (4 readings in flight)" in finding.text


def test_requests_that_wait_without_a_worker_are_wrong() -> None:
    queue = Queue(3, 0, timedelta(minutes=4))
    (finding,) = judge([INGESTOR, API], queue)
    assert (finding.severity, finding.what) == (Severity.WRONG, "queue")
    expected = "3 requests in the queue of analyses, the oldest waiting for 4 minutes, and no worker runs"
    assert finding.text == f"{expected}: start `devicestat work`"
    assert judge(ALL, queue) == []
    (slow,) = judge(ALL, Queue(3, 8, timedelta(minutes=6)))
    assert "WORKER_CONCURRENCY" in slow.text


def test_different_versions_are_a_warning() -> None:
    (finding,) = judge([INGESTOR, API, process(Kind.WORKER, version="1.1")], Queue())
    assert finding.text.startswith("processes of different versions run: 1.0 (api, ingestor), 1.1 (worker).")


def test_two_with_one_client_id_are_a_warning() -> None:
    (finding,) = judge([INGESTOR, process(Kind.INGESTOR, "a"), API, WORKER], Queue())
    assert finding.text == "2 run with the client id a: give each its own"


def test_control_characters_of_a_name_are_escaped() -> None:
    (finding,) = judge([process(Kind.INGESTOR, "a\x1b[2J", age_s=60)], Queue())
    assert "\x1b" not in finding.text


def test_kinds_that_have_never_reported_are_named() -> None:
    assert [finding.what for finding in absent_kinds([API], Queue())] == ["ingestor", "worker"]
    assert [finding.what for finding in absent_kinds([API], Queue(1))] == ["ingestor"]  # the queue has a finding


def test_the_document_of_another_version_is_read_as_far_as_it_is_known() -> None:
    known = msgspec.to_builtins(Document(ingestor=FIGURES))
    text = msgspec.json.encode({**known, "ingestor": {**known["ingestor"], "new": 1}, "newer": {}})
    assert msgspec.json.decode(text, type=Document) == Document(ingestor=FIGURES, parts=[])


def test_the_time_of_a_part_is_that_of_its_last_change(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    health = Health("broker")
    now = 110.0
    health.ready("broker")
    now = 115.0
    health.ready("broker")
    assert health.parts() == [Part("broker", None, 5.0)]
    health.not_ready("broker", "lost")
    now = 118.0
    health.not_ready("broker", "still lost")
    assert health.parts() == [Part("broker", "still lost", 3.0)]
