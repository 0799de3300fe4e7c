"""A model of the original service: the responses of its six endpoints, over lists in memory.

It was written from that service's behaviour, with its quirks. The service answers 200 to a creation, parses "1.5" as a
number like pydantic, ignores a given timestamp, and returns zeros without readings. The current time is an argument.
"""

import json
import math
import re
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

AXES = ("x", "y", "z")
LIMIT = 1000
LARGEST = 2**31 - 1
"""Its ids have PostgreSQL's type integer."""
MILLISECONDS_FROM = 2 * 10**10
"""Numbers from here on are milliseconds."""


class Answer(NamedTuple):
    """A status and a JSON body."""

    status: int
    body: Any


class Failure(Exception):
    """An error response."""

    def __init__(self, status: int, detail: object) -> None:
        super().__init__(status, detail)
        self.answer = Answer(status, {"detail": detail})


class Original:
    """The service, initially empty."""

    def __init__(self) -> None:
        self._devices: list[dict[str, Any]] = []
        self._readings: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []
        self._routes = [
            ("POST", r"/devices", self._add_device),
            ("POST", r"/stats", self._add_reading),
            ("GET", r"/stats/analysis/result/([^/]+)", self._list_results),
            ("POST", r"/stats/analysis/([^/]+)/async", self._queue),
            ("GET", r"/stats/analysis/([^/]+)", self._analyse),
            ("GET", r"/stats/([^/]+)", self._list_readings),
        ]

    def answer(self, method: str, address: str, body: bytes, now: datetime) -> Answer:
        """Return the response. `now`: the time of a new reading."""
        parts = urlsplit(address)
        path = parts.path.rstrip("/")
        matches = [(m, re.fullmatch(pattern, path), handler) for m, pattern, handler in self._routes]
        found = [(m, match.groups(), handler) for m, match, handler in matches if match]
        if not found:
            return Answer(404, {"detail": "Not Found"})
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        for taken, groups, handler in found:
            if taken == method:
                try:
                    return Answer(200, handler(*groups, query=query, body=body, now=now))
                except Failure as failure:
                    return failure.answer
        return Answer(405, {"detail": "Method Not Allowed"})

    def _add_device(self, *, body: bytes, **_: Any) -> dict[str, Any]:
        name = _object(body).get("name")
        if not isinstance(name, str):
            raise Failure(422, "name")
        if "\0" in name:
            raise Failure(500, "the database takes no NUL")
        self._devices.append({"id": len(self._devices) + 1, "name": name})
        return self._devices[-1]

    def _add_reading(self, *, body: bytes, now: datetime, **_: Any) -> dict[str, Any]:
        given = _object(body)
        device_id = _whole(given.get("device_id"))
        axes = {axis: _axis(given.get(axis)) for axis in AXES}
        if abs(device_id) > LARGEST:
            raise Failure(500, "the database takes no such number")
        if not self._is_device(device_id):
            raise Failure(400, "Invalid device_id: does not exist")
        reading = {"id": len(self._readings) + 1, "device_id": device_id, **axes, "timestamp": now}
        self._readings.append(reading)
        return reading

    def _list_readings(self, device: str, *, query: dict[str, str], **_: Any) -> list[dict[str, Any]]:
        return self._of(*self._asked(device, query))

    def _analyse(self, device: str, *, query: dict[str, str], **_: Any) -> dict[str, Any]:
        return _figures(self._of(*self._asked(device, query)))

    def _queue(self, device: str, *, query: dict[str, str], **_: Any) -> dict[str, Any]:
        """The service computes the result later, in a worker. The model does it immediately."""
        device_id, start, end = self._asked(device, query)
        found = _figures(self._of(device_id, start, end))
        number = len(self._results) + 1
        self._results.append({"id": number, "device_id": device_id, "start": start, "end": end, **found})
        return {"status": "queued"}

    def _list_results(self, device: str, **_: Any) -> list[dict[str, Any]]:
        device_id = _whole(device)
        return [result for result in self._results if result["device_id"] == device_id]

    def _asked(self, device: str, query: dict[str, str]) -> tuple[int, datetime | None, datetime | None]:
        """Return device, start and end. All are parsed first; then the device is checked, then the order."""
        device_id, start, end = _whole(device), _moment(query.get("start")), _moment(query.get("end"))
        if abs(device_id) > LARGEST:
            raise Failure(500, "the database takes no such number")
        if not self._is_device(device_id):
            raise Failure(404, f"Device {device_id} not found")
        if start and end and (start.tzinfo is None) != (end.tzinfo is None):
            raise Failure(500, "these two cannot be compared")
        start, end = _utc(start), _utc(end)
        if start and end and start > end:
            raise Failure(400, "start is after end")
        return device_id, start, end

    def _is_device(self, device_id: int) -> bool:
        return any(device["id"] == device_id for device in self._devices)

    def _of(self, device_id: int, start: datetime | None, end: datetime | None) -> list[dict[str, Any]]:
        return [
            reading
            for reading in self._readings
            if reading["device_id"] == device_id
            and (start is None or reading["timestamp"] >= start)
            and (end is None or reading["timestamp"] <= end)
        ]


def _object(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        raise Failure(422, "JSON decode error") from None
    if not isinstance(given, dict):
        raise Failure(422, "not an object")
    return given


def _whole(given: object) -> int:
    number = _number(given)
    if not number.is_integer():
        raise Failure(422, "not a whole number")
    return int(given) if isinstance(given, int) else int(number)


def _axis(given: object) -> float:
    number = _number(given)
    if not -LIMIT <= number <= LIMIT:
        raise Failure(422, "out of range")
    return number


def _number(given: object) -> float:
    if not isinstance(given, int | float | str):
        raise Failure(422, "not a number")
    try:
        number = float(given)
    except (ValueError, OverflowError):
        raise Failure(422, "not a number") from None
    return number


def _moment(text: str | None) -> datetime | None:
    """Return the time as given, with an offset or without."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text.replace(" ", "+"))  # a + in a query is a space
        except ValueError:
            raise Failure(422, "not a time") from None
    if not math.isfinite(seconds):
        raise Failure(422, "not a time")
    return datetime.fromtimestamp(seconds / 1000 if abs(seconds) > MILLISECONDS_FROM else seconds, UTC)


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


def _figures(readings: list[dict[str, Any]]) -> dict[str, Any]:
    return {axis: _of_axis([reading[axis] for reading in readings]) for axis in AXES}


def _of_axis(values: list[float]) -> dict[str, float]:
    if not values:
        return dict.fromkeys(("min", "max", "sum", "count", "median"), 0)
    return {
        "min": min(values),
        "max": max(values),
        "sum": sum(values),
        "count": len(values),
        "median": median(values),
    }
