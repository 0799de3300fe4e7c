"""Intervals, retries and timeouts of a worker, which tests shorten."""

from datetime import timedelta

import msgspec

from query_api.queue import callbacks, claims
from query_api.queue.retries import Retries
from query_api.worker.timetable import JITTER_S
from query_api.worker.webhook import STEP_TIMEOUT_S


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Intervals of the jobs in seconds, and the limits of attempts."""

    poll_s: float = 2.0
    renew_s: float = claims.LEASE.total_seconds() / 5
    tick_s: float = 1.0
    """With the jitter, a tick of a schedule is at most two seconds late."""
    survey_s: float = 10.0
    maintain_s: float = 3600.0
    remove_s: float = 5.0
    seal_s: float = 5.0
    settle_s: float = 60.0
    scrub_s: float = 10.0
    activity_s: float = 5.0
    clean_s: float = 60.0
    jitter_s: float = JITTER_S
    stop_timeout_s: float = 8.0
    """Time after a signal for analyses in progress to end. The rest are queued again."""
    place_wait_s: float = 0.5
    """Time for which an analysis that was claimed ahead waits for a place. Then it is queued again."""
    lease: timedelta = claims.LEASE
    retries: Retries = claims.RETRIES
    callback_retries: Retries = callbacks.RETRIES
    callback_step_s: float = STEP_TIMEOUT_S


DEFAULT = Tuning()
"""Tuning of `devicestat work`."""
