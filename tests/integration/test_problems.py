"""Every wrong request gets a problem with the fault, and never a 500."""

import asyncio
import json
import re
import socket
import struct
from typing import Any

import httpx

from query_api.serve.tuning import Tuning
from query_api.web.answers.problems import PROBLEMS
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import services
from tests.waiting import HANG_S, eventually

JSON = {"content-type": "application/json"}


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return the details of a problem, after a check against RFC 9457 and the table of problems."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    details: dict[str, Any] = answer.json()
    kind = PROBLEMS[details["type"].removeprefix("/problems/")]
    assert (details["title"], details["status"]) == (kind.title, status)
    assert (kind.status, details["detail"] != "") == (status, True)
    assert "Traceback" not in answer.text
    return details


# Bodies.

MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "space": b" \n",
    "cut": b'{"device_id": 1, "x": 1',
    "not JSON": b"x=1&y=2",
    "two values": b'{"name": "a"} {"name": "b"}',
    "NaN": b'{"device_id": 1, "x": NaN, "y": 1, "z": 1}',
    "infinity": b'{"device_id": 1, "x": -Infinity, "y": 1, "z": 1}',
    "invalid UTF-8": b'{"name": "\xff\xfe"}',
    "invalid UTF-8 in an unknown field": b'{"name": "a", "device_id": 1, "x": 1, "y": 1, "z": 1, "other": "\xff"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "lone surrogate": rb'{"name": "\ud800", "key": "\udfff"}',
    "a thousand levels": b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a thousand objects": b'{"name": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "control character": b'{"name": "a\x00b"}',
}


async def test_bodies_that_cannot_be_read(api: httpx.AsyncClient, device: int) -> None:
    for path in ("/devices", "/stats"):
        for body in MALFORMED.values():
            assert_problem(await api.post(path, content=body, headers=JSON), 400)


WRONG: dict[str, Any] = {
    "null": None,
    "a number": 5,
    "text": "x",
    "true": True,
    "an array in an array": [[{"name": "a"}]],
    "an empty object": {},
    "text for numbers": {"device_id": "1", "x": "1", "y": "2", "z": "3", "name": 1},
    "booleans for numbers": {"device_id": True, "x": True, "y": False, "z": True, "name": False},
    "arrays for numbers": {"device_id": [1], "x": [1], "y": [], "z": [[]], "name": []},
    "null for numbers": {"device_id": None, "x": None, "y": None, "z": None, "name": None},
    "out of range": {"device_id": 1, "x": 1000.0001, "y": -1e308, "z": 10**300, "name": ""},
    "fractions": {"device_id": 1.5, "x": 1, "y": 1, "z": 1, "name": 1.5},
    "NUL": {"device_id": "\0", "x": 0, "y": 0, "z": 0, "name": "\0"},
}


async def test_wrong_values(api: httpx.AsyncClient) -> None:
    for path in ("/devices", "/stats"):
        for body in WRONG.values():
            details = assert_problem(await api.post(path, content=json.dumps(body), headers=JSON), 422)
            assert details["errors"]
            assert all(error["field"] and error["detail"] for error in details["errors"])


async def test_a_number_too_large_for_a_float_names_its_field(api: httpx.AsyncClient, device: int) -> None:
    for number in (b"1e999", b"-1e999", b"9" * 500, b"1" + b"0" * 5000):
        body = b'{"device_id": %d, "x": %b, "y": 1, "z": 1}' % (device, number)
        details = assert_problem(await api.post("/stats", content=body, headers=JSON), 422)
        assert [error["field"] for error in details["errors"]] == ["x"]


async def test_the_number_of_listed_faults_is_limited(api: httpx.AsyncClient) -> None:
    details = assert_problem(await api.post("/stats", json=[{}] * 10_000), 422)
    assert len(details["errors"]) == 20


async def test_a_body_of_another_type(api: httpx.AsyncClient, device: int) -> None:
    body = json.dumps({"device_id": device, "x": 1, "y": 2, "z": 3}).encode()
    for media_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
        "x",
        "",
    ):
        answer = await api.post("/stats", content=body, headers={"content-type": media_type})
        assert (media_type or "of no type") in assert_problem(answer, 415)["detail"]
    for media_type in ("application/json", "application/json; charset=utf-8", "application/vnd.x+json"):
        answer = await api.post("/stats", content=body, headers={"content-type": media_type})
        assert answer.status_code == 201, media_type


async def test_a_body_that_is_too_large(api: httpx.AsyncClient, device: int) -> None:
    body = b'{"device_id": %d, "x": 1, "y": 2, "z": 3, "pad": "%b"}' % (device, b"x" * (4 * 1024 * 1024))
    assert_problem(await api.post("/stats", content=body, headers=JSON), 413)

    async def in_pieces() -> Any:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    assert_problem(await api.post("/stats", content=in_pieces(), headers=JSON), 413)
    fits = body[: 4 * 1024 * 1024 - 2] + b'"}'
    assert (await api.post("/stats", content=fits, headers=JSON)).status_code == 201


# Paths and queries.


async def test_methods_that_a_path_does_not_allow(api: httpx.AsyncClient, device: int) -> None:
    for method, path, allowed in (
        ("PUT", "/devices", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("POST", f"/devices/{device}", {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"}),
        ("DELETE", "/stats", {"POST", "OPTIONS"}),
        ("PATCH", "/stats/analysis/requests/1", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("GET", f"/stats/analysis/{device}/async", {"POST", "OPTIONS"}),
        ("TRACE", "/health/live", {"GET", "HEAD", "OPTIONS"}),
    ):
        answer = await api.request(method, path)
        assert_problem(answer, 405)
        assert set(re.split(", *", answer.headers["allow"])) == allowed
        options = await api.options(path)
        assert set(re.split(", *", options.headers["allow"])) == allowed


STRANGE_PATHS = (
    "/nothing", "/stats/1/2/3", "/%00", "/%ff%fe", "/..%2f..%2fetc%2fpasswd", "/assets/../../x",
    "/assets/x/%2e%2e/%2e%2e/shell.py", "/docs/nothing", "/assets/nothing.js", "/problems/nothing", "/assets/x",
    "/assets/x/%00", "/assets/x/static/main.js", "/assets/x/static/main.js/x", "/ui/nothing", "/ui/devices/x",
    "/assets/x/" + "a" * 5000, "/problems/%00", "/" + "a" * 5000, "/😀", "/stats/analysis/requests/" + "9" * 60,
)  # fmt: skip


async def test_unknown_paths(api: httpx.AsyncClient) -> None:
    for path in STRANGE_PATHS:
        answer = await api.get(path)
        assert answer.status_code == 404, path


WITH_A_NUMBER = (
    "/devices/{}", "/stats/{}", "/stats/analysis/{}", "/stats/analysis/result/{}", "/stats/analysis/requests/{}",
)  # fmt: skip
NUMBERS = ("0", "-1", "99999", str(2**63), str(2**64), "1" + "0" * 100)
NO_NUMBERS = (
    "x", "1.5", "0x1", "%00", "%ff", "1%00", "1;2", "NaN", "inf", "9" * 6000, "%E2%91%A0", "1%0A", "+",
)  # fmt: skip


async def test_numbers_in_paths(api: httpx.AsyncClient) -> None:
    for path in WITH_A_NUMBER:
        for number in NUMBERS:
            assert_problem(await api.get(path.format(number)), 404)
        for text in NO_NUMBERS:
            assert_problem(await api.get(path.format(text)), 422)


QUERY_VALUES = (
    "", "%00", "%ff", "x", "-1", "0", "1e400", "-1e400", "NaN", "inf", "9" * 6000, "'; DROP TABLE readings; --",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00%2B14:00", "-0001-01-01",
    "2026-13-01", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "infinity",
    "9999-12-31T23:59:59-14:00", "2016-12-31T23:59:60Z", "2026-01-31T12:00:00.123456789Z", "1" * 40,
    "253402300800", "-62135596801", "253402300799.9999999", "=", "AAAA", "_" * 3000, "null", "[]", "%F0%9F%98%80",
)  # fmt: skip


async def test_nothing_in_a_query_is_a_server_error(api: httpx.AsyncClient, device: int) -> None:
    seen = set()
    for path in (f"/stats/{device}", f"/stats/analysis/{device}", f"/stats/analysis/result/{device}", "/devices"):
        for name in ("start", "end", "limit", "cursor", "order", "search", "unknown"):
            for value in QUERY_VALUES:
                answer = await api.get(f"{path}?{name}={value}")
                seen.add(answer.status_code)
                if answer.status_code != 200:
                    assert answer.status_code in (400, 422), (path, name, value, answer.text)
                    assert_problem(answer, answer.status_code)
    assert seen == {200, 400, 422}


WHOLE_QUERIES = (
    "limit=1&limit=2", "start&end", "&&&", "=", "%", "start=%", "order=asc&order=desc", "a" * 20_000, "?", "%00=1",
)  # fmt: skip


async def test_strange_queries_as_a_whole(api: httpx.AsyncClient, device: int) -> None:
    for query in WHOLE_QUERIES:
        for path in (f"/stats/{device}", f"/stats/analysis/{device}", "/devices"):
            answer = await api.get(f"{path}?{query}")
            assert answer.status_code in (200, 400, 422), (path, query, answer.text)


SAYS = {
    "/devices/abc": "device_id: expected a whole number, got 'abc'",
    "/stats/analysis/requests/1.5": "request_id: expected a whole number, got '1.5'",
    "/devices?limit=0": "limit: expected a whole number from 1 to 10000, got '0'",
    "/devices?limit=10001": "limit: expected a whole number from 1 to 10000, got '10001'",
    "/devices?limit=x": "limit: expected a whole number from 1 to 10000, got 'x'",
    "/devices?search=" + "a" * 201: "search: expected at most 200 characters, got '" + "a" * 60 + "'…",
    "/devices?cursor=": "cursor: not a cursor of this list: copy it from X-Next-Cursor or Link, "
    "with the same path and parameters",
}


async def test_a_refusal_states_the_expected_value(api: httpx.AsyncClient, device: int) -> None:
    says = {**SAYS, f"/stats/{device}?order=up": "order: expected asc or desc, got 'up'"}
    for address, detail in says.items():
        assert (await api.get(address)).json()["detail"] == detail


async def test_strange_headers(api: httpx.AsyncClient, device: int) -> None:
    for accept in ("", ",", "*", "text/csv;q=x", "text/csv;q=-1", ";;;", "text/*", "a"):
        answer = await api.get(f"/stats/{device}", headers={"accept": accept})
        assert answer.status_code == 200, accept
    for accept in ("application/" + "x" * 5000, "a/b", "*/*;q=0"):
        answer = await api.get(f"/stats/{device}", headers={"accept": accept})
        assert answer.status_code == 406, accept
    for host in ("a b", "a/b", "\\", ""):
        answer = await api.get(f"/stats/{device}", headers={"host": host})
        assert answer.status_code == 400, host
    for length in ("x", "-1", "1" * 30):
        got = await raw(api, f"POST /devices HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode())
        assert got[:10] in (b"HTTP/1.1 4", b""), length


async def raw(api: httpx.AsyncClient, request: bytes) -> bytes:
    """Return the response to bytes that no client would send."""
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(request)
    writer.write_eof()
    try:
        async with asyncio.timeout(HANG_S):
            return await reader.read()
    finally:
        writer.close()


async def test_a_disconnect_causes_no_error(api: httpx.AsyncClient) -> None:
    port = api.base_url.port
    assert port is not None
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(
                b"POST /stats HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 999\r\n\r\n["
            )
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
    assert (await api.get("/health/live")).status_code == 200

    async def counted() -> str:
        return (await api.get("/metrics")).text

    count = 'devicestat_http_requests_total{method="POST",route="/stats",status="%s"}'
    metrics = await eventually(counted, lambda text: count % 499 + " 5.0" in text)
    assert count % 500 not in metrics


# Each problem.


async def test_every_problem_is_described_at_its_type(api: httpx.AsyncClient) -> None:
    listed = (await api.get("/problems")).json()
    assert {problem["name"] for problem in listed} == set(PROBLEMS)
    for problem in listed:
        assert (await api.get(f"/problems/{problem['name']}")).json() == problem
        assert problem["title"]
        assert problem["description"]


async def test_an_unexpected_error_reveals_no_details(api: httpx.AsyncClient, database_url: str) -> None:
    async with await connect(database_url, "test") as connection:
        await connection.execute("ALTER TABLE devices RENAME TO hidden")
    answer = await api.get("/devices")
    details = assert_problem(answer, 500)
    assert details["instance"] == "/devices"
    assert "hidden" not in answer.text
    assert "relation" not in answer.text


async def test_responses_while_the_database_is_down(
    postgres_server: str, database_url: str, api_settings: Settings
) -> None:
    tuning = Tuning(pool_wait_s=0.5, probe_interval_s=0.1)

    async def ready() -> bool:
        return await services.is_ready(api_settings.http_port)

    async with services.api(api_settings, tuning) as api:
        device = (await api.post("/devices", json={"name": "Boiler"})).json()["id"]
        async with services.database_away(postgres_server, database_url):
            for method, path in (
                ("GET", "/devices"),
                ("GET", f"/stats/{device}"),
                ("GET", f"/stats/analysis/{device}"),
                ("POST", f"/stats/analysis/{device}/async"),
            ):
                answer = await api.request(method, path)
                assert_problem(answer, 503)
                assert int(answer.headers["retry-after"]) > 0
            await eventually(ready, lambda is_ready: not is_ready)
            report = (await api.get("/health/ready")).json()
            assert report["parts"]["database"] != "ok"
            assert (await api.get("/health/live")).status_code == 200
        await eventually(ready, bool)
        assert (await api.get("/devices")).status_code == 200


async def test_a_problem_without_invalid_fields_has_no_errors(api: httpx.AsyncClient) -> None:
    assert set((await api.get("/devices/9")).json()) == {"type", "title", "status", "detail", "instance"}
