"""Callbacks: a real worker sends the ended analysis to a real server."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpcore
import httpx
import msgspec
import pytest

from query_api.queue import callbacks
from query_api.queue import claims as queue
from query_api.queue.addresses import Ports
from query_api.queue.retries import Retries
from query_api.worker import callbacks as worker_callbacks
from query_api.worker.tuning import Tuning
from query_api.worker.webhook import CheckedNetwork, Resolve, Undelivered, Webhook, host
from shared.settings import Settings
from shared.settings.values import parse_webhook_secret
from tests import services
from tests.claiming import claim_one
from tests.conftest import Database
from tests.ports import free_port
from tests.receiver import drip, receiving, silence, status
from tests.waiting import HANG_S, eventually

SECRET = "correct horse battery"
KEY = parse_webhook_secret(SECRET)


@pytest.fixture
def api_settings(database_url: str) -> Settings:
    return Settings(
        database_url=database_url, http_port=free_port(), worker_metrics_port=free_port(),
        webhook_secret=SECRET, webhook_allow_private=True, webhook_ports="all",
    )  # fmt: skip


SOON = Retries(max_attempts=8, base=timedelta(milliseconds=20), factor=1, cap=timedelta(hours=2))
QUICK = Tuning(poll_s=0.1, jitter_s=0.1, callback_retries=SOON)


@pytest.fixture
async def worker(api_settings: Settings) -> AsyncIterator[None]:
    async with services.worker(api_settings, QUICK):
        yield


def trying(max_attempts: int, **others: float) -> Tuning:
    """Return the tuning of a quick worker with this number of attempts."""
    retries = msgspec.structs.replace(SOON, max_attempts=max_attempts)
    return msgspec.structs.replace(QUICK, callback_retries=retries, **others)


def webhook(
    *, allow_private: bool = True, ports: Ports = None, resolve: Resolve | None = None, **timeouts: float
) -> Webhook:
    network = CheckedNetwork(allow_private=allow_private, ports=ports, resolve=resolve)
    return Webhook(KEY, network, **timeouts)


async def ask(api: httpx.AsyncClient, device: int, callback: str, **parameters: str) -> httpx.Response:
    return await api.post(f"/stats/analysis/{device}/async", params={"callback": callback, **parameters})


async def look(api: httpx.AsyncClient, number: int) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"/stats/analysis/requests/{number}")).json()
    return found


async def until(api: httpx.AsyncClient, number: int, state: Callable[[Any], bool]) -> dict[str, Any]:
    shown = await eventually(lambda: look(api, number), lambda seen: state(seen["callbacks"][0]))
    callback: dict[str, Any] = shown["callbacks"][0]
    return callback


async def test_the_ended_request_is_sent_signed(api: httpx.AsyncClient, device: int, worker: None) -> None:
    await api.post("/stats", json={"device_id": device, "x": 1, "y": 2, "z": 3})
    async with receiving() as receiver:
        answer = await ask(api, device, receiver.url + "?key=1", figures="mean")
        assert answer.status_code == 202
        number = answer.json()["id"]
        callback = await until(api, number, lambda seen: seen["status"] == "delivered")
        assert callback == {"url": receiver.url + "?key=1", "status": "delivered", "attempts": 1, "last_error": None}
        shown = await look(api, number)
    (call,) = receiver.calls
    assert call.target == "POST /hook?key=1 HTTP/1.1"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["host"] == f"127.0.0.1:{receiver.port}"
    del shown["callbacks"]
    assert json.loads(call.body) == shown
    assert shown["result"]["x"]["mean"] == 1
    assert abs(int(call.headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.{call.body.decode()}"
    expected = base64.b64encode(hmac.new(KEY.key, signed.encode(), hashlib.sha256).digest()).decode()
    assert call.headers["webhook-signature"] == f"v1,{expected}"


async def test_a_failed_call_is_retried_with_its_id(api: httpx.AsyncClient, device: int, worker: None) -> None:
    async with receiving(status(500), status(404), status(204, content=b"")) as receiver:
        number = (await ask(api, device, receiver.url)).json()["id"]
        callback = await until(api, number, lambda seen: seen["status"] == "delivered")
    assert (callback["attempts"], callback["last_error"]) == (3, "it responded with 404")
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    assert len({call.body for call in receiver.calls}) == 1


async def test_redirects_are_not_followed(api: httpx.AsyncClient, device: int, api_settings: Settings) -> None:
    async with (
        services.worker(api_settings, trying(2)),
        receiving() as inside,
        receiving(status(302, f"location: {inside.url}\r\n")) as receiver,
    ):
        number = (await ask(api, device, receiver.url)).json()["id"]
        callback = await until(api, number, lambda seen: seen["status"] == "failed")
        assert callback["last_error"] == "it responded with 302: redirects are not followed"
    assert (len(receiver.calls), inside.calls) == (2, [])


async def test_receivers_that_do_not_respond_or_do_not_exist(
    api: httpx.AsyncClient, device: int, api_settings: Settings
) -> None:
    async with services.worker(api_settings, trying(1, callback_step_s=0.3)), receiving(silence) as receiver:
        for url, error in (
            (receiver.url, "did not respond within 0.3 seconds"),
            (f"http://127.0.0.1:{free_port()}/", "no connection to 127.0.0.1"),
            ("http://nobody.invalid/", "the host nobody.invalid has no address"),
            (f"https://127.0.0.1:{receiver.port}/", ""),
        ):
            number = (await ask(api, device, url)).json()["id"]
            callback = await until(api, number, lambda seen: seen["status"] == "failed")
            assert error in callback["last_error"]
            assert callback["last_error"]


async def test_an_endless_response_counts_as_delivered(api: httpx.AsyncClient, device: int, worker: None) -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    async with receiving(endless) as receiver:
        number = (await ask(api, device, receiver.url)).json()["id"]
        await until(api, number, lambda seen: seen["status"] == "delivered")


async def test_several_callbacks_of_one_request(api: httpx.AsyncClient, device: int, database: Database) -> None:
    """Each client that joined is called at the cancellation. No call contains the other callbacks."""
    async with receiving() as one, receiving() as two:
        asked = [(await ask(api, device, url)).json() for url in (one.url, two.url, one.url)]
        assert len({request["id"] for request in asked}) == 1
        assert [callback["url"] for callback in asked[-1]["callbacks"]] == [one.url, two.url]
        await api.delete(f"/stats/analysis/requests/{asked[0]['id']}")
        for due in await callbacks.claim(database, 10):
            async with asyncio.timeout(HANG_S):
                request = await look(api, due.request_id)
                body = worker_callbacks.body(msgspec.convert(request, worker_callbacks.QueuedAnalysis))
                await webhook().send(due.url, str(due.message_id), 1, body)
            await callbacks.delivered(database, due)
        shown = await look(api, asked[0]["id"])
    assert [callback["status"] for callback in shown["callbacks"]] == ["delivered", "delivered"]
    for receiver in (one, two):
        (call,) = receiver.calls
        assert json.loads(call.body)["status"] == "cancelled"
        assert b"callbacks" not in call.body
    assert one.calls[0].headers["webhook-id"] != two.calls[0].headers["webhook-id"]


async def test_a_failed_analysis_has_callbacks(api: httpx.AsyncClient, device: int, database: Database) -> None:
    await ask(api, device, "http://127.0.0.1:1/")
    assert await callbacks.claim(database, 10) == []
    for _ in range(queue.RETRIES.max_attempts):
        await database.execute("UPDATE analysis_requests SET run_after = NULL")
        held = await claim_one(database)
        assert held is not None
        await queue.fail(database, held, "broken")
    (due,) = await callbacks.claim(database, 10)
    assert due.request_id == held.id


async def test_a_callback_whose_worker_died_is_sent_by_another(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    number = (await ask(api, device, "http://127.0.0.1:1/")).json()["id"]
    await api.delete(f"/stats/analysis/requests/{number}")
    (lost,) = await callbacks.claim(database, 10)
    assert await callbacks.claim(database, 10) == []
    await database.execute("UPDATE analysis_callbacks SET due_at = now()")  # as when the lease runs out
    (again,) = await callbacks.claim(database, 10)
    assert (again.message_id, again.attempts) == (lost.message_id, 2)
    assert await callbacks.fail(database, lost, "late") is None
    await callbacks.delivered(database, lost)
    assert (await look(api, number))["callbacks"][0]["status"] == "waiting"
    await callbacks.delivered(database, again)
    assert (await look(api, number))["callbacks"][0]["status"] == "delivered"


async def test_the_delays_of_retries_grow_to_hours(api: httpx.AsyncClient, device: int, database: Database) -> None:
    number = (await ask(api, device, "http://127.0.0.1:1/")).json()["id"]
    await api.delete(f"/stats/analysis/requests/{number}")
    waits = []
    for _ in range(callbacks.RETRIES.max_attempts):
        await database.execute("UPDATE analysis_callbacks SET due_at = now()")
        (due,) = await callbacks.claim(database, 1)
        last = await callbacks.fail(database, due, "no")
        cursor = await database.execute("SELECT due_at - now() FROM analysis_callbacks")
        waits += [row[0] for row in await cursor.fetchall()]
    assert (last, waits.pop()) == ("failed", None)
    assert waits[:5] == sorted(waits[:5])
    assert timedelta(hours=3) < sum(waits, timedelta()) < timedelta(hours=7)


# What is refused.


async def test_a_callback_without_a_secret_is_refused(api_settings: Settings, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('d', 'd')")
    async with services.api(msgspec.structs.replace(api_settings, webhook_secret=None)) as api:
        answer = await ask(api, 1, "https://example.org/")
        assert answer.status_code == 422
        assert "DEVICESTAT_WEBHOOK_SECRET" in answer.json()["errors"][0]["detail"]
        assert (await api.get("/stats/analysis/requests")).json() == []


async def test_private_addresses_are_refused(api_settings: Settings, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('d', 'd')")
    settings = msgspec.structs.replace(api_settings, webhook_allow_private=False)
    async with services.api(settings) as api, receiving() as receiver:
        for url in (receiver.url, "http://[::1]/", "http://2130706433/", "http://u:p@example.org/", "x", ""):
            answer = await ask(api, 1, url)
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "callback")
        number = (await ask(api, 1, f"http://localhost:{receiver.port}/")).json()["id"]
        async with services.worker(settings):
            callback = await until(api, number, lambda seen: seen["last_error"])
        assert "localhost has an address that is not public" in callback["last_error"]
        assert "127.0.0.1" not in callback["last_error"]
        assert "DEVICESTAT_WEBHOOK_ALLOW_PRIVATE" in callback["last_error"]
    assert receiver.calls == []


class Names:
    """Lookups of a name server whose results change."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        return self.answers.pop(0)


async def test_a_name_is_resolved_once_and_all_its_addresses_are_checked() -> None:
    async with receiving() as receiver:
        names = Names(["8.8.8.8", "127.0.0.1"], ["::ffff:10.0.0.1"])
        for _ in range(2):
            with pytest.raises(Undelivered, match="rebound has an address that is not public"):
                await webhook(allow_private=False, resolve=names).send(
                    f"http://rebound:{receiver.port}/", "m", 1, b"{}"
                )
        names.answers = [["127.0.0.1"]]
        await webhook(resolve=names).send(f"http://rebound:{receiver.port}/", "m", 1, b"{}")
        assert (names.answers, receiver.calls[0].headers["host"]) == ([], f"rebound:{receiver.port}")


async def test_a_port_is_checked_again_when_the_call_is_sent(api_settings: Settings, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('d', 'd')")
    settings = msgspec.structs.replace(api_settings, webhook_ports="80,443")
    async with services.api(settings) as api, receiving() as receiver:
        answer = await ask(api, 1, receiver.url)
        assert answer.status_code == 422
        assert "is not one of the allowed ports (80, 443)" in answer.json()["errors"][0]["detail"]
    assert receiver.calls == []
    hook = webhook(ports={80, 443})
    with pytest.raises(Undelivered, match="DEVICESTAT_WEBHOOK_PORTS"):
        await hook.send("http://127.0.0.1:5432/", "m", 1, b"{}")


async def test_an_error_contains_no_address_of_the_host() -> None:
    port = free_port()
    with pytest.raises(Undelivered) as raised:
        await webhook(resolve=Names(["127.0.0.9", "::1"])).send(f"http://inside:{port}/", "m", 1, b"{}")
    assert str(raised.value).startswith(f"no connection to inside, port {port}: ")
    assert "127.0.0.9" not in str(raised.value)
    assert "::1" not in str(raised.value)


_DUE = """
    WITH request AS (
        INSERT INTO analysis_requests (device_id, period, status, finished_at)
        SELECT 1, '[,]', 'done', now() FROM generate_series(1, %s) RETURNING id
    )
    INSERT INTO analysis_callbacks (request_id, url, due_at)
    SELECT id, %s, now() - interval '1 hour' + id * interval '1 s' FROM request
"""


async def test_hosts_take_turns_with_a_few_concurrent_calls_each(database: Database) -> None:
    """The first host has a backlog that was due long before the calls to other hosts."""
    await database.execute("INSERT INTO devices (key, name) VALUES ('d', 'd')")
    for url, due in (("http://Slow.test:8080/a", 90), ("https://b.test", 2), ("https://[2606:4700::1]/x?y", 2)):
        await database.execute(_DUE, (due, url))
    first = await callbacks.claim(database, 4)
    assert [due.host for due in first] == ["[2606:4700::1]"] * 2 + ["b.test"] * 2
    second = await callbacks.claim(database, 16, "b.test")
    assert [due.host for due in second] == ["slow.test"] * callbacks.MAX_PER_HOST
    assert await callbacks.claim(database, 16, "slow.test") == []
    await callbacks.delivered(database, second[0])
    assert [due.host for due in await callbacks.claim(database, 16)] == ["slow.test"]
    await database.execute("UPDATE analysis_callbacks SET due_at = now() WHERE token IS NOT NULL")  # their workers died
    assert len(await callbacks.claim(database, 16)) == 2 + 2 + callbacks.MAX_PER_HOST


async def test_a_slow_receiver_does_not_delay_another(
    api: httpx.AsyncClient, device: int, database: Database, worker: None
) -> None:
    async with receiving(silence) as slow, receiving() as quick:
        dripping = slow.url.replace("127.0.0.1", "localhost")
        for start in range(3 * worker_callbacks.CONCURRENCY):
            await ask(api, device, dripping, start=str(10**9 + start))

        async def called() -> int:
            return len(slow.calls)

        await eventually(called, lambda calls: calls == callbacks.MAX_PER_HOST)
        number = (await ask(api, device, quick.url, start=str(2 * 10**9))).json()["id"]
        callback = await until(api, number, lambda seen: seen["status"] == "delivered")
        assert callback["attempts"] == 1
        assert await called() == callbacks.MAX_PER_HOST, "the slow receiver got no further call"


async def test_a_call_times_out_while_bytes_still_arrive() -> None:
    async with receiving(status(200), drip) as receiver:
        hook = webhook(timeout_s=0.3)
        await hook.send(receiver.url, "m", 1, b"{}")
        with pytest.raises(Undelivered, match=r"within 0\.3 seconds"):
            await hook.send(receiver.url, "m", 1, b"{}")


async def test_an_ipv6_address_has_its_brackets_in_the_host_header() -> None:
    async with receiving() as receiver:
        hook = webhook()
        await hook.send(f"http://127.0.0.1:{receiver.port}/hook", "id", 0, b"{}")
        assert receiver.calls[0].headers["host"] == f"127.0.0.1:{receiver.port}"
    assert host("http://[::1]:8080/hook") == "[::1]:8080"


async def test_the_next_address_is_tried() -> None:
    async with receiving() as receiver:
        network = CheckedNetwork(allow_private=True, ports=None, resolve=Names(["127.0.0.2", "127.0.0.1"]))
        stream = await network.connect_tcp("two", receiver.port, timeout=HANG_S)
        assert isinstance(stream, httpcore.AsyncNetworkStream)
        await stream.aclose()


async def test_the_metrics_count_callbacks(
    api: httpx.AsyncClient, device: int, worker: None, api_settings: Settings
) -> None:
    async with receiving() as receiver:
        number = (await ask(api, device, receiver.url)).json()["id"]
        await until(api, number, lambda seen: seen["status"] == "delivered")

    async def delivered() -> bool:
        async with services.client_of(api_settings.worker_metrics_port) as client:
            text = (await client.get("/metrics")).text
        return 'devicestat_worker_callbacks_total{outcome="delivered"} 1.0' in text

    await eventually(delivered, bool)


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(Settings(webhook_secret=SECRET))
