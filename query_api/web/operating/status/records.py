"""Records of `GET /status`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from shared.status.figures import (
    Address,
    ApiFigures,
    BrokerFigures,
    IngestorFigures,
    PerSecond,
    Source,
    WorkerFigures,
)
from shared.status.findings import Severity
from shared.status.process import Kind, State


class StatusFinding(msgspec.Struct, frozen=True):
    """Result of one check, as of `devicestat doctor`."""

    severity: Annotated[Severity, Meta(description="ok, warning or wrong.", examples=["warning"])]
    subject: Annotated[str, Meta(description="What was checked.", examples=["queue"])]
    text: Annotated[
        str,
        Meta(
            description="The result and, if something is wrong, how to repair it.",
            examples=["3 requests in the queue of analyses, and no worker runs: start `devicestat work`"],
        ),
    ]


class ProcessPart(msgspec.Struct, frozen=True):
    """A part of a process, as in its /health/ready."""

    name: Annotated[str, Meta(description="Its name.", examples=["broker"])]
    fault: Annotated[str | None, Meta(description="Why it is not ready; null if it is ready.", examples=[None])]
    since: Annotated[datetime, Meta(description="Time since which it is ready, or not.")]


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A process by its last report. It reports every five seconds."""

    id: Annotated[UUID, Meta(description="Made by the process at its start.")]
    kind: Annotated[Kind, Meta(description="What it does.", examples=["ingestor"])]
    name: Annotated[
        str,
        Meta(
            description="The MQTT client id of an ingestor, the address of an API; empty for a worker.",
            examples=["devicestat-ingestor"],
        ),
    ]
    state: Annotated[
        State,
        Meta(
            description="running; late: no report for 15 seconds; gone: none for 45 seconds; replaced: it is gone, and "
            "another one has taken its place. A process is removed from the list when it stops as it should, and "
            "15 minutes after its last report.",
            examples=["running"],
        ),
    ]
    host: Annotated[str | None, Meta(description="Its host. Null but for an admin.", examples=["edge-1"])]
    pid: Annotated[int | None, Meta(description="Its process id. Null but for an admin.", examples=[4711])]
    version: Annotated[str, Meta(description="Its version.", examples=["0.1.0"])]
    started_at: Annotated[datetime, Meta(description="Time of its start.")]
    updated_at: Annotated[datetime, Meta(description="Time of its last report.")]
    parts: Annotated[Sequence[ProcessPart], Meta(description="Its health.")]
    ingestor: Annotated[IngestorFigures | None, Meta(description="Figures, if it is an ingestor.")]
    api: Annotated[ApiFigures | None, Meta(description="Figures, if it is an API.")]
    worker: Annotated[WorkerFigures | None, Meta(description="Figures, if it is a worker.")]


class Ingestion(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of all running ingestors together. `lag_s` and `delay_…` are those of the slowest."""

    messages_per_s: PerSecond
    readings_per_s: PerSecond
    stored_per_s: PerSecond
    duplicates: Annotated[int, Meta(description="Readings of the last minute that were stored already.")]
    refused: Annotated[Mapping[str, int], Meta(description="Refused readings of the last minute, by reason.")]
    in_flight: Annotated[int, Meta(description="Readings that wait to be committed.")]
    lag_s: Annotated[float, Meta(description="Age in seconds of the oldest message that is not committed yet.")]
    delay_p50_s: Annotated[
        float | None, Meta(description="Median of the seconds from receipt to COMMIT; null without batches.")
    ]
    delay_p99_s: Annotated[float | None, Meta(description="As delay_p50_s, of which 99 % of the batches took no more.")]


class BrokerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A broker, as the running ingestors know it."""

    address: Address
    ingestors: Annotated[
        Sequence[str],
        Meta(description="The MQTT client ids of its running ingestors.", examples=[["devicestat-ingestor"]]),
    ]
    source: Source
    figures: Annotated[
        BrokerFigures | None,
        Meta(
            description="The figures of all clients of the broker, about 15 seconds old at most: Mosquitto publishes "
            "them every 10 seconds, unless sys_interval is set. Null if they are not read."
        ),
    ]


class QueueStatus(msgspec.Struct, frozen=True):
    """The queue of analyses."""

    queued: Annotated[int, Meta(description="Requests that are queued, those that will be retried later included.")]
    running: Annotated[int, Meta(description="Requests that run.")]
    oldest_s: Annotated[
        float | None, Meta(description="Seconds for which the oldest request waits that may begin; null without one.")
    ]


class RefusedReadings(msgspec.Struct, frozen=True):
    """Refused readings of one reason."""

    reason: Annotated[str, Meta(description="The reason.", examples=["out_of_range"])]
    last_hour: Annotated[int, Meta(description="Readings in the last hour.")]
    last_day: Annotated[int, Meta(description="Readings in the last 24 hours.")]


class DatabaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The database."""

    version: Annotated[str, Meta(description="Version of PostgreSQL.", examples=["17.2"])]
    connections: Annotated[int, Meta(description="Connections to the server, of all programs.")]
    max_connections: Annotated[int, Meta(description="The most that the server allows.", examples=[100])]
    oldest_transaction_s: Annotated[
        float | None,
        Meta(
            description="Age in seconds of the oldest transaction that the API's database role may see; null without "
            "one. A role with pg_read_all_stats sees those of all roles."
        ),
    ]
    size_bytes: Annotated[int | None, Meta(description="Size on disk.")]
    months: Annotated[int | None, Meta(description="Months of readings, each a partition.")]
    readings: Annotated[int | None, Meta(description="Readings, as PostgreSQL estimates them; null before ANALYZE.")]


class BlocksStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far readings are sealed in blocks, from which analyses take exact figures."""

    devices: Annotated[int, Meta(description="Devices.")]
    devices_with_blocks: Annotated[int, Meta(description="Devices with sealed readings.")]
    share: Annotated[
        float | None,
        Meta(description="Estimated share of the readings that are sealed, from 0 to 1; null if not known."),
    ]
    lag_s: Annotated[float, Meta(description="Seconds since the device that is due for the longest time was due.")]
    late_readings: Annotated[int | None, Meta(description="Readings that came after their time was sealed.")]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of all processes, of the brokers, of the queue and of the database."""

    read_at: Annotated[datetime, Meta(description="Time at which processes, queue and connections were read.")]
    examined_at: Annotated[
        datetime | None,
        Meta(
            description="Time at which sizes, months, blocks and dead letters were read, and the database was checked: "
            "every 30 seconds while there are requests for it; null before the first time."
        ),
    ]
    severity: Annotated[Severity, Meta(description="The worst severity of the findings.", examples=["ok"])]
    findings: Annotated[Sequence[StatusFinding], Meta(description="What the checks found, the worst first.")]
    processes: Annotated[Sequence[ProcessStatus], Meta(description="All processes, by kind and name.")]
    ingestion: Ingestion
    brokers: Annotated[Sequence[BrokerStatus], Meta(description="The brokers of the running ingestors.")]
    queue: QueueStatus
    dead_letters: Annotated[
        Sequence[RefusedReadings] | None,
        Meta(description="Refused readings of the last 24 hours by reason; null if not known."),
    ]
    database: DatabaseStatus
    blocks: Annotated[BlocksStatus | None, Meta(description="Sealed readings; null if not known.")]
