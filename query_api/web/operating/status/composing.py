"""Compose the response from what was read. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import msgspec

from query_api.web.operating.status.brokers import find_brokers, judge_brokers, shown
from query_api.web.operating.status.examining import Examination
from query_api.web.operating.status.reading import Reading, Server
from query_api.web.operating.status.records import (
    BlocksStatus,
    DatabaseStatus,
    Ingestion,
    ProcessPart,
    ProcessStatus,
    QueueStatus,
    RefusedReadings,
    Status,
    StatusFinding,
)
from shared.serving.telemetry import STARTING
from shared.status import database
from shared.status.figures import Document, IngestorFigures
from shared.status.findings import Finding, Severity
from shared.status.judging import absent_kinds, judge
from shared.status.process import Kind
from shared.status.table import Process, running

NOT_SHOWN = "not ready. Only an admin sees the reason, which may name hosts"
_WORST_FIRST = (Severity.WRONG, Severity.WARNING, Severity.OK)


def compose(reading: Reading, examination: Examination, *, with_hosts: bool) -> Status:
    """Return the status. `with_hosts`: with the hosts and the process ids."""
    server, queue, brokers = reading.server, reading.queue, find_brokers(reading.processes)
    processes = reading.processes if with_hosts else [without_addresses(process) for process in reading.processes]
    findings = _sorted(
        [
            *judge(processes, queue, with_hosts=with_hosts),
            *absent_kinds(processes, queue),
            *judge_brokers(brokers, with_hosts=with_hosts),
            *database.connections(server.connections, server.max_connections),
            *examination.findings,
        ]
    )
    return Status(
        read_at=server.read_at,
        examined_at=examination.size.examined_at if examination.size else None,
        severity=findings[0].severity if findings else Severity.OK,
        findings=findings,
        processes=[_process(process, with_hosts=with_hosts) for process in processes],
        ingestion=_ingestion([process.document for process in running(processes, Kind.INGESTOR)]),
        brokers=[shown(broker, with_hosts=with_hosts) for broker in brokers],
        queue=QueueStatus(queue.queued, queue.running, _seconds(queue.oldest)),
        dead_letters=_refused(examination),
        database=_database(server, examination),
        blocks=_blocks(examination),
    )


def _sorted(findings: Iterable[Finding]) -> list[StatusFinding]:
    in_order = sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.severity))
    return [StatusFinding(finding.severity, finding.what, finding.text) for finding in in_order]


def without_addresses(process: Process) -> Process:
    """Return the process without its address and without the texts of faults, which name hosts and ports."""
    name = "" if process.kind is Kind.API else process.name
    if process.document is None:
        return msgspec.structs.replace(process, name=name)
    parts = [
        part if part.fault in (None, STARTING) else msgspec.structs.replace(part, fault=NOT_SHOWN)
        for part in process.document.parts
    ]
    document = msgspec.structs.replace(
        process.document, parts=parts, ingestor=_without_address(process.document.ingestor)
    )
    return msgspec.structs.replace(process, name=name, document=document)


def _without_address(figures: IngestorFigures | None) -> IngestorFigures | None:
    if figures is None or figures.broker is None:
        return figures
    return msgspec.structs.replace(figures, broker=msgspec.structs.replace(figures.broker, address=None))


def _process(process: Process, *, with_hosts: bool) -> ProcessStatus:
    document = process.document or Document()

    def since(seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    return ProcessStatus(
        id=process.id, kind=process.kind, name=process.name, state=process.state,
        host=process.host if with_hosts else None, pid=process.pid if with_hosts else None,
        version=process.version, started_at=process.started_at, updated_at=process.updated_at,
        parts=[ProcessPart(part.name, part.fault, process.updated_at - since(part.for_s)) for part in document.parts],
        ingestor=document.ingestor, api=document.api, worker=document.worker,
    )  # fmt: skip


def _ingestion(documents: Iterable[Document | None]) -> Ingestion:
    figures = [document.ingestor for document in documents if document is not None and document.ingestor is not None]
    return Ingestion(
        messages_per_s=sum(one.messages_per_s for one in figures),
        readings_per_s=sum(one.readings_per_s for one in figures),
        stored_per_s=sum(one.stored_per_s for one in figures),
        duplicates=sum(one.duplicates for one in figures),
        refused=_summed(one.refused for one in figures),
        in_flight=sum(one.in_flight for one in figures),
        lag_s=max((one.lag_s for one in figures), default=0.0),
        delay_p50_s=_slowest(figures, "delay_p50_s"),
        delay_p99_s=_slowest(figures, "delay_p99_s"),
    )


def _summed(counts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def _slowest(figures: Sequence[IngestorFigures], name: str) -> float | None:
    delays: list[float] = [delay for one in figures if (delay := getattr(one, name)) is not None]
    return max(delays, default=None)


def _refused(examination: Examination) -> list[RefusedReadings] | None:
    if examination.refused is None:
        return None
    return [RefusedReadings(one.reason, one.last_hour, one.last_day) for one in examination.refused]


def _database(server: Server, examination: Examination) -> DatabaseStatus:
    size, coverage = examination.size, examination.coverage
    return DatabaseStatus(
        version=server.version,
        connections=server.connections,
        max_connections=server.max_connections,
        oldest_transaction_s=server.oldest_s,
        size_bytes=size.size_bytes if size else None,
        months=size.months if size else None,
        readings=round(coverage.stored) if coverage and coverage.stored is not None else None,
    )


def _blocks(examination: Examination) -> BlocksStatus | None:
    coverage, late = examination.coverage, examination.late
    if coverage is None:
        return None
    return BlocksStatus(
        devices=coverage.devices,
        devices_with_blocks=coverage.with_blocks,
        share=coverage.share,
        lag_s=coverage.lag.total_seconds(),
        late_readings=late.count if late else None,
    )


def _seconds(age: timedelta | None) -> float | None:
    return None if age is None else age.total_seconds()
