"""The brokers of the running ingestors: ingestors with one address of a broker read the same figures. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from query_api.web.operating.status.records import BrokerStatus
from shared.status.broker import judge_broker
from shared.status.figures import BrokerReport, BrokerSource
from shared.status.findings import Finding
from shared.status.process import Kind
from shared.status.table import Process, running

_BEST_FIRST = (BrokerSource.READ, BrokerSource.NOT_PUBLISHED, BrokerSource.NOT_CONNECTED)


class Broker(msgspec.Struct, frozen=True):
    """A broker.

    `report`: the latest one of an ingestor that can read the figures, else of any. `window`: of all ingestors together.
    """

    report: BrokerReport
    ingestors: Sequence[str]
    window: int


def find_brokers(processes: Iterable[Process]) -> list[Broker]:
    """Return the brokers of the running ingestors, by address."""
    reports: defaultdict[str, list[tuple[Process, BrokerReport]]] = defaultdict(list)
    for process, report in _reports(processes):
        reports[report.address or ""].append((process, report))
    return [_broker(each) for _, each in sorted(reports.items())]


def _reports(processes: Iterable[Process]) -> Iterator[tuple[Process, BrokerReport]]:
    for process in running(processes, Kind.INGESTOR):
        figures = process.document.ingestor if process.document else None
        if figures is not None and figures.broker is not None:
            yield process, figures.broker


def _broker(reports: Sequence[tuple[Process, BrokerReport]]) -> Broker:
    def age(one: tuple[Process, BrokerReport]) -> tuple[int, float]:
        process, report = one
        return _BEST_FIRST.index(report.source), process.age_s

    _, best = min(reports, key=age)
    names = sorted({process.name for process, _ in reports})
    return Broker(best, names, sum(report.window for _, report in reports))


def judge_brokers(brokers: Sequence[Broker], *, with_hosts: bool) -> list[Finding]:
    """Return what `devicestat doctor` finds in the figures. Of several brokers, an admin sees the address of each."""
    findings: list[Finding] = []
    for broker in brokers:
        place = f" at {broker.report.address}" if with_hosts and len(brokers) > 1 else ""
        if broker.report.figures is not None:
            findings += judge_broker(broker.report.figures, broker.window, place)
    return findings


def shown(broker: Broker, *, with_hosts: bool) -> BrokerStatus:
    """Return the record of the broker. `with_hosts`: with its address."""
    report = broker.report
    return BrokerStatus(
        address=report.address if with_hosts else None,
        ingestors=broker.ingestors,
        source=report.source,
        figures=report.figures,
    )
