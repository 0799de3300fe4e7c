"""The figures that a broker publishes about itself: reading, judging, and one record for each broker."""

import msgspec
import pytest

from query_api.web.operating.status.brokers import find_brokers, judge_brokers, shown
from query_api.web.operating.status.composing import without_addresses
from shared.status.broker import TOPICS, figures_of, judge_broker
from shared.status.figures import BrokerFigures, BrokerReport, BrokerSource, Document
from shared.status.findings import Severity
from shared.status.process import Kind
from shared.status.table import GONE_S, Process
from tests.unit.test_status_findings import FIGURES, process

PUBLISHED = dict(zip(TOPICS, (b"mosquitto version 2.0.11", b"80", b"1.50", b"152", b"4000", b"52"), strict=True))
READ = BrokerFigures(version="mosquitto version 2.0.11", waiting=100, waiting_bytes=4000, dropped=80)


def test_the_figures_are_those_of_the_topics() -> None:
    assert figures_of(PUBLISHED) == BrokerFigures(
        version="mosquitto version 2.0.11", waiting=100, waiting_bytes=4000, dropped=80, dropped_per_minute=1.5
    )


@pytest.mark.parametrize("payload", [b"", b"many", b"-1", b"1_000", b" 1", b"\xff", b"9" * 400, b"\xd9\xa1"])
def test_what_is_no_number_is_no_figure(payload: bytes) -> None:
    found = figures_of(dict.fromkeys(TOPICS[1:], payload))
    assert found == BrokerFigures()


def test_a_version_can_be_stored_and_printed() -> None:
    """PostgreSQL stores no NUL in jsonb."""
    found = figures_of({TOPICS[0]: b"\x00\x1b[31m" + b"v" * 5000})
    assert found.version is not None
    assert found.version.startswith("\\x00\\x1b[31mvvv")
    assert len(found.version) < 200


def test_messages_within_the_window_are_no_warning() -> None:
    (waiting,) = judge_broker(BrokerFigures(waiting=100, waiting_bytes=4000), window=100)
    assert (waiting.severity, waiting.what) == (Severity.OK, "waiting")
    assert waiting.text == "about 100 messages (4,000 bytes) in the broker, for all of its clients"
    (waiting,) = judge_broker(BrokerFigures(waiting=101), window=100)
    assert waiting.severity is Severity.WARNING
    assert waiting.text.endswith("for all of its clients: is the ingestor running and fast enough?")


def test_only_of_mosquitto_its_options_are_named() -> None:
    (_, dropped) = judge_broker(READ, window=100)
    assert "raise max_queued_messages and max_queued_bytes" in dropped.text
    (_, dropped) = judge_broker(msgspec.structs.replace(READ, version="mochi 2"), window=100)
    assert "raise its queue limits" in dropped.text


def ingestor(name: str, source: BrokerSource, address: str = "broker:1883", age_s: float = 1.0) -> Process:
    figures = READ if source is BrokerSource.READ else None
    report = BrokerReport(address=address, window=100, source=source, figures=figures)
    document = Document(ingestor=msgspec.structs.replace(FIGURES, broker=report))
    return process(Kind.INGESTOR, name, age_s=age_s, document=document)


def test_ingestors_of_one_broker_show_it_once() -> None:
    away, silent = BrokerSource.NOT_CONNECTED, BrokerSource.NOT_PUBLISHED
    processes = [ingestor("a", away, age_s=0), ingestor("b", BrokerSource.READ), ingestor("c", silent, age_s=0)]
    (broker,) = find_brokers(processes)
    assert (broker.report.figures, broker.window) == (READ, 300)
    record = shown(broker, with_hosts=True)
    assert (record.address, record.ingestors, record.source) == ("broker:1883", ["a", "b", "c"], BrokerSource.READ)
    assert [finding.what for finding in judge_brokers([broker], with_hosts=True)] == ["waiting", "dropped"]


def test_the_latest_report_is_shown() -> None:
    late = ingestor("a", BrokerSource.READ, age_s=4)
    assert late.document is not None
    assert late.document.ingestor is not None
    report = BrokerReport(address="broker:1883", window=1, source=BrokerSource.READ, figures=BrokerFigures(waiting=7))
    early = msgspec.structs.replace(
        late, name="b", age_s=0.5, document=Document(ingestor=msgspec.structs.replace(FIGURES, broker=report))
    )
    (broker,) = find_brokers([late, early])
    assert broker.report.figures == BrokerFigures(waiting=7)


def test_several_brokers_are_named_to_an_admin_only() -> None:
    processes = [ingestor("a", BrokerSource.READ, "one:1883"), ingestor("b", BrokerSource.READ, "two:1883")]
    brokers = find_brokers(processes)
    texts = [finding.text for finding in judge_brokers(brokers, with_hosts=True)]
    assert [" at one:1883" in text for text in texts] == [True, True, False, False]
    assert [" at two:1883" in text for text in texts] == [False, False, True, True]
    assert not any("1883" in finding.text for finding in judge_brokers(brokers, with_hosts=False))
    assert [shown(broker, with_hosts=False).address for broker in brokers] == [None, None]


def test_an_ingestor_shows_the_address_to_an_admin_only() -> None:
    hidden = without_addresses(ingestor("a", BrokerSource.READ))
    assert "1883" not in msgspec.json.encode(hidden).decode()
    assert "4000" in msgspec.json.encode(hidden).decode()


def test_processes_that_do_not_run_or_do_not_know_show_nothing() -> None:
    gone = ingestor("a", BrokerSource.READ, age_s=GONE_S + 1)
    older = process(Kind.INGESTOR, "b", document=Document(ingestor=FIGURES))
    assert find_brokers([gone, older, process(Kind.WORKER)]) == []
