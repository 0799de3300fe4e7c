"""Retries of failed attempts at analyses and callbacks."""

from datetime import timedelta

import msgspec


class Retries(msgspec.Struct, frozen=True):
    """Delays after failed attempts: they grow by the factor from `base` up to `cap`, with a jitter of up to half."""

    max_attempts: int
    base: timedelta
    factor: int
    cap: timedelta
