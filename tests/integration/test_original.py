"""The original service's six endpoints, asked of a model of it (tests/original.py) and of the running API and worker.

The answers are equal: statuses, fields, figures, which readings lie in a period. Where they are meant to differ, the
difference stands in one of the two tables here, with its reason.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from shared.settings import Settings
from tests import services
from tests.original import Answer, Original
from tests.waiting import eventually

T = datetime(2026, 1, 31, 12, tzinfo=UTC)
CLOSE = 1e-12

EVERYWHERE = {
    "201 and 202": "what is created is answered with 201, and what is queued with 202 (RFC 9110)",
    "problem details": "an error's body is a problem of RFC 9457; its `detail` is the original's field",
    "more fields": "an object may have fields that the original's has not, such as a device's key",
    "timestamps": "a reading may have a timestamp; the original uses its clock, so the test sets the model's clock",
    "order": "readings come by their time and results the newest first; the original's have no order",
    "null": "no readings have no least, greatest or middle value; the original's zeros look like values",
    "exact sums": "a sum is the exact one, rounded once; the original's depends on the order of the readings",
    "queued": "what is queued answers with the request; the original's says in words that it was queued",
}
DIFFERENCES = {
    "malformed": (400, "a body that is not JSON has no fields that could be wrong"),
    "typed": (422, 'JSON has types: "1.5" is no number and true is none'),
    "no name": (422, "a device that is called nothing cannot be found by its name"),
    "no NUL": (422, "the original fails: its database takes no NUL"),
    "huge, in the body": (400, "the original fails: such a number is no device's, as any other that is not there"),
    "huge, in the path": (404, "the original fails: such a number is no device's, as any other that is not there"),
    "unknown, of results": (404, "the original has no results of a device that is not there, and does not say so"),
    "mixed offsets": (200, "the original fails: here a time without an offset is UTC, beside any other"),
    "milliseconds": (422, "a number is of seconds, whatever its size"),
    "twice": (200, "what was sent again is stored once"),
}  # fmt: skip
"""Each with our status."""


class Ask(msgspec.Struct, frozen=True):
    """A request. `after`: of a reading, its time, in seconds after T. `unlike`: its name in DIFFERENCES."""

    method: str
    address: str
    body: Any = None
    after: float | None = None
    unlike: str | None = None


def device(body: Any, unlike: str | None = None) -> Ask:
    return Ask("POST", "/devices", body, unlike=unlike)


def reading(device_id: Any, x: Any, y: Any, z: Any, after: float = 0, unlike: str | None = None) -> Ask:
    return Ask("POST", "/stats", {"device_id": device_id, "x": x, "y": y, "z": z}, after, unlike)


def get(address: str, unlike: str | None = None) -> Ask:
    return Ask("GET", address, unlike=unlike)


def queue(address: str, unlike: str | None = None) -> Ask:
    return Ask("POST", address, unlike=unlike)


def each_way(query: str) -> list[Ask]:
    """Read, analysed, and analysed by the queue."""
    return [get(f"/stats/1{query}"), get(f"/stats/analysis/1{query}"), queue(f"/stats/analysis/1/async{query}")]


PERIODS = [
    "",
    "?start=2026-01-31T12:00:01Z&end=2026-01-31T12:00:03Z",  # both ends are a reading's time
    "?start=2026-01-31T12:00:01.000001Z&end=2026-01-31T12:00:02.999999Z",
    "?start=2026-01-31T12:00:02Z&end=2026-01-31T12:00:02Z",
    "?start=2026-01-31T12:00:03",
    "?end=2026-01-31T14:00:01%2B02:00",
    "?start=2026-01-31",  # as `end` a date is another moment: it includes its day
    "?start=1769860802&end=1769860804.5",
    "?start=2027-01-01",
    "?end=1970-01-01T00:00:00Z",
]
WRONG = [
    "?start=yesterday",
    "?end=",
    "?start=nan",
    "?start=2026-02-30",
    "?start=2026-01-31T12:00:02Z&end=2026-01-31T00:00:00Z",
]
NUMBERS = ["2", "2/", "3", "99", "0", "-1", "one", "1.5"]
REQUESTS = [
    *(device({"name": name}) for name in ("Boiler, north", "Котёл", "Boiler, north")),
    *(device(body) for body in ({}, {"name": None}, {"name": 7}, {"title": "x"}, [], "Boiler", {"name": ["x"]})),
    *(reading(1, n, -n / 4, (n * 7) % 5, after=n) for n in range(6)),
    reading(1, 0.1, 0.2, 0.3, after=2.5),
    *(reading(2, x, 1000, -1000, after=n) for n, x in enumerate((0.1, 1e3, 0.2, -1e3, 0.3))),
    *(reading(2, *axes) for axes in ((1000.001, 0, 0), (0, -1001, 0), (0, 0, 1e300))),
    *(reading(2, *axes) for axes in ((None, 0, 0), ("x", 0, 0), ([], 0, 0))),
    *(reading(number, 0, 0, 0) for number in (None, "x", 1.5, 99, 0, -1)),
    Ask("POST", "/stats", {"device_id": 1, "x": 1, "y": 2}),
    *(ask for period in PERIODS for ask in each_way(period)),
    *(ask for period in WRONG for ask in each_way(period)),
    *(get(f"/stats{way}/{number}") for way in ("", "/analysis") for number in NUMBERS),
    *(queue(f"/stats/analysis/{number}/async") for number in ("2", "99", "one")),
    *(get(f"/stats/analysis/result/{number}") for number in ("1", "2", "3", "one")),
    *(get(path) for path in ("/nothing", "/stats/1/2/3", "/stats/analysis")),
    *(Ask("PUT", path) for path in ("/devices", "/stats")),
    # Where they are meant to differ. After some of these they no longer hold the same.
    Ask("POST", "/stats", b"{", unlike="malformed"),
    Ask("POST", "/devices", b"", unlike="malformed"),
    *(reading(3, *axes, unlike="typed") for axes in (("1.5", 0, 0), (True, 0, 0))),
    reading("3", 0, 0, 0, unlike="typed"),
    reading(2**40, 0, 0, 0, unlike="huge, in the body"),
    *(get(f"/stats{way}/{2**70}", "huge, in the path") for way in ("", "/analysis")),
    get("/stats/analysis/result/99", "unknown, of results"),
    get("/stats/1?start=2026-01-31T12:00:00&end=2026-01-31T12:00:09Z", "mixed offsets"),
    get("/stats/1?start=1769860802000", "milliseconds"),
    reading(2, 0.1, 1000, -1000, unlike="twice"),
    device({"name": ""}, "no name"),
    device({"name": "a\0b"}, "no NUL"),
]  # fmt: skip


async def ask_ours(api: httpx.AsyncClient, ask: Ask) -> Answer:
    content = encoded(ask, with_time=True)
    headers = {"Content-Type": "application/json"} if ask.body is not None else {}
    answer = await api.request(ask.method, ask.address, content=content, headers=headers)
    if answer.status_code == 202:
        await done(api, answer.headers["Location"])
    return Answer(answer.status_code, answer.json() if answer.content else None)


async def done(api: httpx.AsyncClient, location: str) -> None:
    async def status() -> str:
        found: str = (await api.get(location)).json()["status"]
        return found

    await eventually(status, lambda seen: seen == "done")


def encoded(ask: Ask, *, with_time: bool) -> bytes:
    if ask.body is None or isinstance(ask.body, bytes):
        return ask.body or b""
    body = ask.body
    if with_time and ask.after is not None:
        body = {**body, "timestamp": moment_of(ask).isoformat()}
    return json.dumps(body).encode()


def moment_of(ask: Ask) -> datetime:
    return T + timedelta(seconds=ask.after or 0)


def usual(ask: Ask, theirs: Answer) -> int:
    """Our status, where the two are not meant to differ."""
    if theirs.status == 200 and ask.method == "POST":
        return 202 if ask.address.partition("?")[0].endswith("/async") else 201
    return theirs.status


def unequal(theirs: Any, ours: Any, at: str = "") -> list[str]:
    """Where ours has not what theirs has. Of readings and results an id need only be a number: it may be another."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return [
            fault
            for name, value in theirs.items()
            if not (name == "id" and "device_id" in theirs and isinstance(ours.get("id"), int))
            for fault in unequal(none_for_zero(theirs, name, value), ours.get(name, "missing"), f"{at}.{name}")
        ]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [
            fault for n, pair in enumerate(zip(theirs, ours, strict=True)) for fault in unequal(*pair, f"{at}[{n}]")
        ]
    if isinstance(theirs, datetime) and isinstance(ours, str):
        return [] if datetime.fromisoformat(ours) == theirs else [f"{at}: {theirs} and {ours}"]
    return [] if theirs == ours or close(at, theirs, ours) else [f"{at}: {theirs!r} and {ours!r}"]


def none_for_zero(axis: dict[str, Any], name: str, value: Any) -> Any:
    return None if axis.get("count") == 0 and name in ("min", "max", "median") else value


def close(at: str, theirs: Any, ours: Any) -> bool:
    return at.endswith(".sum") and ours == pytest.approx(theirs, rel=CLOSE, abs=CLOSE)


def in_our_order(body: Any) -> Any:
    """Readings by their time; results the newest first."""
    if not isinstance(body, list) or not body:
        return body
    return sorted(body, key=lambda r: r["timestamp"]) if "timestamp" in body[0] else body[::-1]


def faults(ask: Ask, theirs: Answer, ours: Answer) -> list[str]:
    """What is not as it should be."""
    if ask.unlike is not None:
        wanted, _ = DIFFERENCES[ask.unlike]
        return [] if ours.status == wanted != usual(ask, theirs) else [f"{theirs} and {ours}, wanted {wanted}"]
    if ours.status != usual(ask, theirs):
        return [f"{theirs} and {ours}"]
    if ours.status >= 400:
        return unequal({"status": ours.status}, ours.body) + unequal_details(ours.body)
    if ours.status == 202:
        return unequal({"status": "queued"}, ours.body)
    return unequal(in_our_order(theirs.body), ours.body)


def unequal_details(problem: Any) -> list[str]:
    return [] if problem["detail"] and isinstance(problem["detail"], str) else [f"no detail: {problem}"]


async def test_it_answers_as_the_original_does(api_settings: Settings) -> None:
    original = Original()
    found: dict[str, list[str]] = {}
    async with services.api(api_settings) as api, services.worker(api_settings):
        for ask in REQUESTS:
            theirs = original.answer(ask.method, ask.address, encoded(ask, with_time=False), moment_of(ask))
            if wrong := faults(ask, theirs, await ask_ours(api, ask)):
                found[f"{ask.method} {ask.address} {ask.body}"] = wrong
    assert found == {}
    assert len(REQUESTS) >= 50
    assert {ask.unlike for ask in REQUESTS} - {None} == set(DIFFERENCES)
