"""`devicestat simulate`: registers devices over HTTP, and publishes readings of `waveform` over MQTT.

Each reading has a timestamp. So a reading that is sent again after a lost connection is stored once, and none is lost.
"""

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec

from deploy.devices.api_client import ApiClient, ApiDevice
from deploy.simulate.publisher import PublishCounts, Publisher, SimulatedMessage
from deploy.simulate.waveform import sample
from deploy.terminal import Terminal
from shared.serving.service import run
from shared.settings import Settings
from shared.status.words import counted

KEY_PREFIX = "sim-"
REPORT_EVERY_S = 10.0
LAST_ACKNOWLEDGEMENTS_S = 5.0
"""Time after a signal for the acknowledgement of messages in flight."""
HISTORY_STEP_S = 10
_ON_THE_WAY = timedelta(hours=1)
"""Margin between the history and OLDEST, so that no reading becomes too old before it is published."""
HISTORY_MESSAGE = 500


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Number of devices, readings per second of all devices, total of readings, and hours of history."""

    devices: int
    rate: float
    count: int | None = None
    history_h: float = 0.0
    seed: int = 1


def simulate(settings: Settings, plan: Plan, api: str, terminal: Terminal) -> None:
    """Register the devices, and publish until the count is reached or a signal arrives."""
    with contextlib.closing(ApiClient(api, settings.api_key)) as client:
        devices = registered(client, plan.devices)
    terminal.say(f"{counted(len(devices), 'device')}: {devices[0].key} to {devices[-1].key}")
    plan = within(plan, settings.oldest_age, terminal)
    form = settings.mqtt_topic
    topics = [f"{form.prefix}{device.key}{form.suffix}" for device in devices]
    run(partial(_publish, settings, plan, topics, terminal))


def within(plan: Plan, oldest_age: timedelta, terminal: Terminal) -> Plan:
    """Return the plan, with a history no longer than OLDEST and RETENTION allow."""
    longest_h = max(0.0, (oldest_age - _ON_THE_WAY).total_seconds() / 3600)
    if plan.history_h <= longest_h:
        return plan
    terminal.say(f"the history is {longest_h:g} hours long, because older readings are refused (OLDEST, RETENTION)")
    return msgspec.structs.replace(plan, history_h=longest_h)


def registered(client: ApiClient, wanted: int) -> list[ApiDevice]:
    """Return the devices sim-1, sim-2, …; register those that do not exist."""
    existing = {device.key: device for device in client.devices(KEY_PREFIX)}
    keys = [f"{KEY_PREFIX}{number}" for number in range(1, wanted + 1)]
    return [
        existing.get(key) or client.register(key, f"Simulated device {number}")
        for number, key in enumerate(keys, start=1)
    ]


def history(plan: Plan, topics: list[str], now: float) -> Iterator[SimulatedMessage]:
    """Return messages with the readings of the hours before `now`, at fixed times: a repeat yields equal readings."""
    first = int(now - plan.history_h * 3600) // HISTORY_STEP_S + 1
    last = int(now) // HISTORY_STEP_S
    left = sys.maxsize if plan.count is None else plan.count
    for start in range(first, last + 1, HISTORY_MESSAGE):
        moments = [step * HISTORY_STEP_S for step in range(start, min(start + HISTORY_MESSAGE, last + 1))]
        for number, topic in enumerate(topics, start=1):
            if left == 0:
                return
            readings = [_reading(plan.seed, number, moment) for moment in moments[:left]]
            left -= len(readings)
            yield _message(topic, readings)


def live(plan: Plan, topics: list[str], start: float) -> Iterator[tuple[float, SimulatedMessage]]:
    """Return the time and the message of each reading; the devices take turns."""
    for position in itertools.count() if plan.count is None else range(plan.count):
        number = position % len(topics) + 1
        moment = round(start + position / plan.rate, 6)
        yield moment, _message(topics[number - 1], [_reading(plan.seed, number, moment)])


def _reading(seed: int, number: int, moment: float) -> dict[str, float]:
    return {**msgspec.structs.asdict(sample(seed, number, moment)), "timestamp": moment}


def _message(topic: str, readings: list[dict[str, float]]) -> SimulatedMessage:
    content = readings[0] if len(readings) == 1 else readings
    return SimulatedMessage(topic, msgspec.json.encode(content), len(readings))


async def _publish(settings: Settings, plan: Plan, topics: list[str], terminal: Terminal, stop: asyncio.Event) -> None:
    began = time.monotonic()
    publisher = Publisher(settings.broker, terminal.say)
    making = asyncio.create_task(_make(plan, topics, publisher), name="make")
    stopping: asyncio.Task[Any] = asyncio.create_task(stop.wait(), name="stop")
    publishing = asyncio.create_task(publisher.run(), name="publish")
    reporting = asyncio.create_task(_report(publisher.counts, terminal), name="report")
    try:
        await asyncio.wait({making, stopping, publishing}, return_when="FIRST_COMPLETED")
        for task in (publishing, making):
            if task.done():
                task.result()  # raises its error
        making.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(publisher.flush(), LAST_ACKNOWLEDGEMENTS_S)
    finally:
        tasks = (making, stopping, publishing, reporting)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    terminal.say(_summary(publisher.counts, len(topics), time.monotonic() - began))


async def _make(plan: Plan, topics: list[str], publisher: Publisher) -> None:
    start, began = time.time(), time.monotonic()
    if plan.history_h > 0:
        for message in history(plan, topics, start):
            await publisher.put(message)
            await asyncio.sleep(0)  # a signal must not wait for all of it
    if plan.count is not None:
        plan = msgspec.structs.replace(plan, count=plan.count - publisher.counts.readings)
    for due, message in live(plan, topics, start):
        await asyncio.sleep(max(0.0, due - start - (time.monotonic() - began)))  # the clock may be set meanwhile
        await publisher.put(message)
    await publisher.flush()


async def _report(counts: PublishCounts, terminal: Terminal) -> None:
    while True:
        await asyncio.sleep(REPORT_EVERY_S)
        terminal.say(f"{counted(counts.readings, 'reading')} sent, {counts.acknowledged:,} acknowledged")


def _summary(counts: PublishCounts, devices: int, seconds: float) -> str:
    again = f"; {counted(counts.sent_again, 'message')} sent again" if counts.sent_again else ""
    return (
        f"sent {counted(counts.readings, 'reading')} of {counted(devices, 'device')} "
        f"in {counted(counts.messages, 'message')} and {seconds:.1f} s; "
        f"the broker acknowledged {counts.acknowledged:,} of them{again}"
    )
