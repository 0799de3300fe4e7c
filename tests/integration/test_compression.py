"""Compressed responses: JSON for clients that accept gzip, no streams, and nothing with secrets."""

import gzip

import httpx
import pytest

ACCEPTED = {"Accept-Encoding": "gzip"}
REFUSED = {"Accept-Encoding": "identity"}


async def raw(api: httpx.AsyncClient, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    async with api.stream("GET", path, headers=headers) as answer:
        return answer, b"".join([block async for block in answer.aiter_raw()])


@pytest.fixture
async def readings(api: httpx.AsyncClient, device: int) -> int:
    """A device with a list of readings that is longer than 1 KiB."""
    given = [{"device_id": device, "x": n, "y": 0, "z": 0, "timestamp": 1_769_860_800 + n} for n in range(1000)]
    assert (await api.post("/stats", json=given)).status_code == 201
    return device


async def test_long_json_is_compressed_for_clients_that_accept_it(api: httpx.AsyncClient, readings: int) -> None:
    for path in (f"/stats/{readings}", f"/stats/{readings}?limit=100", "/openapi.json", "/problems"):
        plain, content = await raw(api, path, **REFUSED)
        answer, packed = await raw(api, path, **ACCEPTED)
        assert "content-encoding" not in plain.headers
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) == len(packed) < len(content) / 2
        assert gzip.decompress(packed) == content
        for one in (plain, answer):
            assert "Accept-Encoding" in one.headers["vary"]
            assert one.headers["content-type"] == plain.headers["content-type"]
    head = await api.head(f"/stats/{readings}", headers=ACCEPTED)
    assert (head.headers["content-encoding"], head.content) == ("gzip", b"")


async def test_what_is_not_compressed(api: httpx.AsyncClient, readings: int) -> None:
    small = await api.get(f"/stats/{readings}/latest", headers=ACCEPTED)
    assert "content-encoding" not in small.headers
    assert "Accept-Encoding" in small.headers["vary"]
    for path in (f"/stats/{readings}.csv", f"/stats/{readings}.ndjson", f"/stats/{readings}.parquet", "/metrics"):
        answer = await api.get(path, headers=ACCEPTED)
        assert answer.status_code == 200, path
        assert "content-encoding" not in answer.headers, path
        assert "Accept-Encoding" not in answer.headers.get("vary", ""), path
    created = await api.post("/devices", json=[{"name": f"device {n}"} for n in range(50)], headers=ACCEPTED)
    assert (created.status_code, len(created.content) > 1024) == (201, True)
    assert "content-encoding" not in created.headers
    async with api.stream("GET", f"/stats/{readings}/live", headers=ACCEPTED) as live:
        assert "content-encoding" not in live.headers


async def test_lists_of_keys_are_not_compressed(api: httpx.AsyncClient) -> None:
    for n in range(20):
        assert (await api.post("/keys", json={"role": "analyst", "name": f"key {n}"})).status_code == 201
    keys, content = await raw(api, "/keys", **ACCEPTED)
    assert (keys.status_code, len(content) > 1024) == (200, True)
    assert "content-encoding" not in keys.headers
