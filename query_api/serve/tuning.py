"""Bounds and timeouts of one process of the API, which tests shorten."""

import msgspec

from query_api.readings.formats.exports import READERS, ReaderBounds
from query_api.readings.live.listeners import LIVE, LiveBounds
from query_api.readings.row_stream import PARTS, PartRows
from query_api.readings.waiting import WAITING, WaitingBounds
from query_api.readings.write_batcher import PATIENCE_S
from query_api.serve.pools import EXPORTS, POOL_WAIT_S, SLOW
from query_api.serve.probe import INTERVAL_S
from query_api.web.limits.turns import Bounds
from shared.serving.limits import LIMITS, ConnectionLimits


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of concurrent work, and timeouts in seconds."""

    slow_reads: Bounds = Bounds(running=SLOW, each=4, waiting=96, waiting_each=24)
    streams: Bounds = Bounds(running=EXPORTS, each=6, waiting=24, waiting_each=6)
    readers: ReaderBounds = READERS
    parts: PartRows = PARTS
    live: LiveBounds = LIVE
    connections: ConnectionLimits = LIMITS
    pool_wait_s: float = POOL_WAIT_S
    store_wait_s: float = PATIENCE_S
    waiting: WaitingBounds = WAITING
    probe_interval_s: float = INTERVAL_S


DEFAULT = Tuning()
"""Tuning of `devicestat serve`."""
