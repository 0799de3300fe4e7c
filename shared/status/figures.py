"""The document of a process: its health, and the figures of its kind.

The process that reads may have another version than the one that wrote. It ignores unknown fields, and a field that a
later version adds needs a default.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.serving.telemetry import Part

MOST_TEXT = 500
"""Characters of a fault that are reported."""

PerSecond = Annotated[float, Meta(description="A second, over the last minute.", examples=[12.5])]


class BrokerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures that the broker publishes about itself, for all of its clients together. A figure may be missing."""

    version: Annotated[
        str | None, Meta(description="Name and version of the broker.", examples=["mosquitto version 2.0.11"])
    ] = None
    waiting: Annotated[
        int | None,
        Meta(
            description="Messages that wait for clients of the broker, with those in flight and without retained ones.",
            examples=[12],
        ),
    ] = None
    waiting_bytes: Annotated[
        int | None, Meta(description="Bytes of payload of all messages in the broker, with retained ones.")
    ] = None
    dropped: Annotated[
        int | None,
        Meta(description="Messages that the broker has dropped for its clients since it started.", examples=[0]),
    ] = None
    dropped_per_minute: Annotated[
        float | None, Meta(description="Messages dropped a minute, over the last minute.", examples=[0.0])
    ] = None


class BrokerSource(StrEnum):
    """Whether an ingestor can read the figures of its broker."""

    READ = "read"
    NOT_PUBLISHED = "not_published"
    NOT_CONNECTED = "not_connected"


Source = Annotated[
    BrokerSource,
    Meta(
        description="read; not_published: the broker does not publish its figures, or not to the user of MQTT_URL; "
        "not_connected: the connection that reads them is not there, and the log of the ingestor says why.",
        examples=["read"],
    ),
]


Address = Annotated[
    str | None,
    Meta(
        description="Address of the broker, and the host if it is on that of the ingestor. Null but for an admin.",
        examples=["127.0.0.1:1883 on edge-1"],
    ),
]


class BrokerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an ingestor knows of its broker."""

    address: Address
    window: Annotated[
        int, Meta(description="Messages that the ingestor may have received and not acknowledged: MQTT_WINDOW.")
    ]
    source: Source
    figures: Annotated[BrokerFigures | None, Meta(description="The figures; null if they are not read.")] = None


class IngestorFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of an ingestor. `delay_…`: from the receipt of a batch's first message to its COMMIT, over batches."""

    messages_per_s: PerSecond
    readings_per_s: PerSecond
    stored_per_s: PerSecond
    duplicates: Annotated[int, Meta(description="Readings of the last minute that were stored already.", examples=[0])]
    redelivered: Annotated[int, Meta(description="Messages of the last minute with DUP set.", examples=[0])]
    refused: Annotated[
        Mapping[str, int],
        Meta(description="Refused readings of the last minute, by reason.", examples=[{"out_of_range": 2}]),
    ]
    delay_p50_s: Annotated[
        float | None,
        Meta(
            description="Median, over the batches of the last minute, of the seconds from the receipt of the first "
            "message to the COMMIT, estimated from a histogram; null without batches."
        ),
    ]
    delay_p99_s: Annotated[float | None, Meta(description="As delay_p50_s, of which 99 % of the batches took no more.")]
    lag_s: Annotated[float, Meta(description="Age in seconds of the oldest message that is not committed yet.")]
    in_flight: Annotated[int, Meta(description="Readings that wait to be committed.", examples=[0])]
    is_paused: Annotated[
        bool, Meta(description="Whether it reads nothing from the broker, because too many readings wait.")
    ]
    last_commit_s: Annotated[
        float | None, Meta(description="Seconds since the last committed batch; null before the first.")
    ]
    journal_packets: Annotated[int, Meta(description="Packets in its journal, 60,000 at most.")]
    journal_no: Annotated[int, Meta(description="Number of the last entry of its journal.")]
    broker_disk_free_bytes: Annotated[
        int | None, Meta(description="Free bytes for the broker's saves; null without BROKER_DATA_DIR.")
    ]
    broker: Annotated[
        BrokerReport | None, Meta(description="Its broker; null from an ingestor of an earlier version.")
    ] = None


class ApiFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of an API process."""

    requests_per_s: PerSecond
    refused: Annotated[int, Meta(description="Responses of the last minute with a status of 400 to 499.")]
    errors: Annotated[int, Meta(description="Responses of the last minute with a status of 500 to 599.")]
    request_p50_s: Annotated[
        float | None,
        Meta(
            description="Median of the seconds from a request to the end of its response, over the last minute and "
            "without live streams, estimated from a histogram; null without requests."
        ),
    ]
    request_p99_s: Annotated[
        float | None, Meta(description="As request_p50_s, of which 99 % of the requests took no more.")
    ]
    live_streams: Annotated[int, Meta(description="Live streams that are open.")]
    slow_running: Annotated[int, Meta(description="Slow reads and streams of readings that run.")]
    slow_waiting: Annotated[int, Meta(description="Slow reads and streams of readings that wait for a place.")]
    readings_waiting: Annotated[int, Meta(description="Readings received over HTTP that wait to be stored.")]


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """A periodic job of a worker."""

    name: Annotated[str, Meta(description="Its name.", examples=["seal"])]
    every_s: Annotated[float, Meta(description="Its interval in seconds.", examples=[5.0])]
    is_running: Annotated[bool, Meta(description="Whether it runs now.")]
    began_s: Annotated[
        float | None, Meta(description="Seconds since its last run began; null before the first run.", examples=[1.5])
    ]
    fault: Annotated[str | None, Meta(description="Why it is late, or how its last run failed; null if it is well.")]


class WorkerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a worker."""

    concurrency: Annotated[int, Meta(description="Analyses that it computes at once: WORKER_CONCURRENCY.")]
    running: Annotated[int, Meta(description="Analyses that it has claimed.")]
    analyses: Annotated[
        Mapping[str, int],
        Meta(description="Attempts at analyses that ended in the last minute, by outcome.", examples=[{"done": 4}]),
    ]
    callbacks: Annotated[
        Mapping[str, int],
        Meta(description="Calls of webhooks that ended in the last minute, by outcome.", examples=[{"delivered": 1}]),
    ]
    sealed_per_s: PerSecond
    sealing_lag_s: Annotated[
        float, Meta(description="Seconds since the device that is due for the longest time should have been sealed.")
    ]
    failures: Annotated[
        int, Meta(description="Failures since its start to seal, to settle or to check the readings of a device.")
    ]
    mismatches: Annotated[int, Meta(description="What was wrong in blocks since its start, and was built anew.")]
    rounds: Annotated[Sequence[Round], Meta(description="Its periodic jobs.")]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What a process reports. It has figures of its own kind only."""

    parts: Sequence[Part] = ()
    ingestor: IngestorFigures | None = None
    api: ApiFigures | None = None
    worker: WorkerFigures | None = None


def shortened(parts: Sequence[Part]) -> list[Part]:
    """Return the parts with faults of bounded length."""
    return [
        msgspec.structs.replace(part, fault=None if part.fault is None else part.fault[:MOST_TEXT]) for part in parts
    ]
