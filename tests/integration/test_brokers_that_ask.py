"""Brokers that ask over HTTP which clients may connect, publish and subscribe, in the form of each broker."""

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest

from shared.settings import Settings
from tests import services
from tests.broker_questions import SECRET, Asker
from tests.credentials import Keys, bearer, keys
from tests.ports import free_port
from tests.waiting import eventually

DENY_THE_REST = {"permission": "deny", "action": "all", "topic": "#"}


@pytest.fixture
def asked_settings(api_settings: Settings) -> Settings:
    """Settings of an API that brokers may ask."""
    return msgspec.structs.replace(api_settings, mqtt_auth_secret=SECRET, rate_limit=20)


@pytest.fixture
async def asked(asked_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with services.api(asked_settings) as client:
        yield client


@pytest.fixture
async def registered(asked: httpx.AsyncClient) -> dict[str, Any]:
    """A registered device, with its token."""
    device: dict[str, Any] = (await asked.post("/devices", json={"name": "n", "key": "boiler"})).json()
    return device


@pytest.fixture
def asker(asked: httpx.AsyncClient) -> Asker:
    return Asker(asked)


def is_denied(answer: httpx.Response) -> bool:
    return bool(answer.json()["result"] == "deny")


def user_of(device: dict[str, Any]) -> str:
    return str(device["mqtt_username"])


def admitted(device: dict[str, Any]) -> dict[str, object]:
    """Return the response about a device that may connect, which is equal for EMQX and rmqtt."""
    own = {"permission": "allow", "action": "publish", "topic": f"devices/{device['key']}/stats"}
    return {"result": "allow", "is_superuser": False, "superuser": False, "acl": [own, DENY_THE_REST]}


async def test_a_device_connects_with_its_token(asker: Asker, registered: dict[str, Any]) -> None:
    user = user_of(registered)
    for ask in (asker.emqx_authenticate, asker.rmqtt_authenticate):
        answer = await ask(user, registered["token"], user)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == admitted(registered)
    for form in (False, True):
        answer = await asker.go_auth("user", form, username=user, password=registered["token"], clientid=user)
        assert (answer.status_code, answer.json()) == (200, {"ok": True})


async def test_all_others_are_refused_with_200(
    asker: Asker, asked: httpx.AsyncClient, registered: dict[str, Any]
) -> None:
    user, token = user_of(registered), registered["token"]
    other = (await asked.post("/devices", json={"name": "other"})).json()
    wrong = [
        (user, token[:-1] + ("A" if token[-1] != "A" else "E"), user), (user, other["token"], user),
        (user_of(other), token, user_of(other)), (user, "", user), (None, None, user), (user, None, user),
        (user, token, "another-client"), (user, token, ""), ("boiler", token, "boiler"), ("1", token, "1"),
        ("device-999999", token, "device-999999"), ("device-99999999999999999999", token, user),
        ("devicestat-ingestor", token, user), ("%u", token, "%c"), (user, SECRET, user),
        (f"{user}\n", token, user), (user, f" {token}", user), (user, "\u00e9\U0001f600", user),
    ]  # fmt: skip
    for username, password, client_id in wrong:
        for ask in (asker.emqx_authenticate, asker.rmqtt_authenticate):
            answer = await ask(username, password, client_id)
            assert answer.status_code == 200, (username, client_id)
            assert answer.json().keys() == {"result", "reason"}, (username, client_id)
            assert answer.json()["result"] == "deny"
        answer = await asker.go_auth("user", username=username, password=password, clientid=client_id)
        assert answer.status_code == 403, (username, client_id)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_device_publishes_to_its_own_topic_and_does_nothing_else(
    asker: Asker, registered: dict[str, Any]
) -> None:
    user = user_of(registered)
    await asker.emqx_authenticate(user, registered["token"], user)
    own = f"devices/{registered['key']}/stats"
    may = {("publish", own)}
    cases = [
        (action, topic) for action in ("publish", "subscribe")
        for topic in (own, "devices/other/stats", "devices/+/stats", "#", f"{own}/x", "devices/boiler", "", "$SYS/x",
                      f"$share/g/{own}", f"$delayed/1/{own}", f" {own}", f"{own}\0")
    ]  # fmt: skip
    for action, topic in cases:
        wanted = "allow" if (action, topic) in may else "deny"
        number = {"publish": "2", "subscribe": "1"}[action]
        for answer in (
            await asker.emqx_authorize(user, user, action, topic),
            await asker.rmqtt_authorize(user, user, number, topic),
        ):
            assert (answer.status_code, answer.json()["result"]) == (200, wanted), (action, topic)
            assert answer.headers.get("x-cache") == ("5000" if wanted == "allow" else None)
        acc = {"publish": 2, "subscribe": 4}[action]
        answer = await asker.go_auth("acl", username=user, clientid=user, topic=topic, acc=acc)
        assert answer.status_code == (200 if wanted == "allow" else 403), (action, topic)
    assert (await asker.go_auth("acl", username=user, clientid=user, topic=own, acc=1)).status_code == 403
    assert (await asker.go_auth("superuser", username=user)).status_code == 403
    for strange in ("", "3", "Publish", "all"):
        answer = await asker.emqx_authorize(user, user, strange, own)
        assert answer.json() == {"result": "deny", "reason": "action is neither publish (2) nor subscribe (1)"}


async def test_other_users_are_ignored_if_the_broker_asks_for_it(asker: Asker, registered: dict[str, Any]) -> None:
    user = user_of(registered)
    for name, wanted in (("devicestat-ingestor", "ignore"), ("", "ignore"), (user, "deny"), ("device-999999", "deny")):
        answer = await asker.rmqtt_authenticate(name, "a password", name, "?others=ignore")
        assert answer.json()["result"] == wanted, name
        answer = await asker.rmqtt_authorize(name, name, "1", "devices/+/stats", "?others=ignore")
        assert answer.json()["result"] == wanted, name
        assert (await asker.rmqtt_authorize(name, name, "1", "devices/+/stats")).json()["result"] == "deny"


async def test_a_deleted_device_is_refused_within_a_second(
    asker: Asker, asked: httpx.AsyncClient, registered: dict[str, Any]
) -> None:
    user, topic = user_of(registered), f"devices/{registered['key']}/stats"
    assert (await asker.emqx_authenticate(user, registered["token"], user)).json()["result"] == "allow"
    assert (await asker.emqx_authorize(user, user, "publish", topic)).json()["result"] == "allow"
    await asked.delete(f"/devices/{registered['id']}")
    await eventually(partial(asker.emqx_authenticate, user, registered["token"], user), is_denied)
    assert (await asker.emqx_authorize(user, user, "publish", topic)).json()["result"] == "deny"
    assert (await asker.go_auth("acl", username=user, clientid=user, topic=topic, acc=2)).status_code == 403


async def test_a_rotation_denies_the_client_with_the_former_token(
    asker: Asker, asked: httpx.AsyncClient, registered: dict[str, Any]
) -> None:
    user, topic = user_of(registered), f"devices/{registered['key']}/stats"
    assert (await asker.emqx_authenticate(user, registered["token"], user)).json()["result"] == "allow"
    assert (await asker.emqx_authorize(user, user, "publish", topic)).json()["result"] == "allow"
    new = (await asked.post(f"/devices/{registered['id']}/token")).json()["token"]
    await eventually(partial(asker.emqx_authorize, user, user, "publish", topic), is_denied)
    assert (await asker.emqx_authenticate(user, registered["token"], user)).json()["result"] == "deny"
    assert (await asker.emqx_authorize(user, user, "publish", topic)).json()["result"] == "deny"
    assert (await asker.emqx_authenticate(user, new, user)).json()["result"] == "allow"
    assert (await asker.emqx_authorize(user, user, "publish", topic)).json()["result"] == "allow"


async def test_another_process_knows_immediately_that_a_client_has_connected(
    asked_settings: Settings, asker: Asker, registered: dict[str, Any]
) -> None:
    second = msgspec.structs.replace(asked_settings, http_port=free_port())
    user, topic = user_of(registered), f"devices/{registered['key']}/stats"
    async with services.api(second) as client:
        other = Asker(client)
        assert (await other.emqx_authorize(user, user, "publish", topic)).json()["result"] == "deny"
        assert (await asker.emqx_authenticate(user, registered["token"], user)).json()["result"] == "allow"
        assert (await other.emqx_authorize(user, user, "publish", topic)).json()["result"] == "allow"


async def test_a_broker_that_asks_about_each_publication_gets_no_rules(
    asker: Asker, registered: dict[str, Any]
) -> None:
    user = user_of(registered)
    answer = (await asker.rmqtt_authenticate(user, registered["token"], user, "?rules=ask")).json()
    assert (answer["result"], answer["acl"]) == ("allow", [])


async def test_the_duration_of_a_session_can_be_bounded(asker: Asker, registered: dict[str, Any]) -> None:
    user = user_of(registered)
    now = time.time()
    answer = (await asker.emqx_authenticate(user, registered["token"], user, "?session=1000")).json()
    assert now + 790 < answer["expire_at"] < time.time() + 1001
    wrong = await asker.emqx_authenticate(user, registered["token"], user, "?session=1")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "session")


async def test_no_text_of_a_client_causes_an_error(asked: httpx.AsyncClient) -> None:
    bodies = [
        ("application/json", b""), ("application/json", b"{"), ("application/json", b'{"username": 7}'),
        ("application/json", b"[" * 5000), ("application/json", b'{"password": "' + b"x" * 70_000 + b'"}'),
        ("application/json", b'{"username": "\\ud800"}'), ("application/json", b"\xff"), ("text/plain", b"x"),
        ("application/x-www-form-urlencoded", b"username=a&username=b"),
        ("application/x-www-form-urlencoded", b"password=" + b"%ff" * 100_000),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(100))),
        ("application/x-www-form-urlencoded", "username=\u00e9".encode()), ("", b"{}"),
    ]  # fmt: skip
    for path in ("/mqtt/authenticate", "/mqtt/authorize"):
        for media_type, body in bodies:
            answer = await asked.post(path, content=body, headers={**bearer(SECRET), "Content-Type": media_type})
            assert answer.status_code == 200, (media_type, body[:40])
            assert answer.json()["result"] == "deny"
            assert answer.json()["reason"]
            status = (await asked.post(
                "/mqtt/go-auth/user", content=body, headers={**bearer(SECRET), "Content-Type": media_type}
            )).status_code  # fmt: skip
            assert status == 400, (media_type, body[:40])


async def test_a_broker_has_no_rate_limit(asker: Asker, asked: httpx.AsyncClient, registered: dict[str, Any]) -> None:
    user = user_of(registered)
    for _ in range(30):
        assert (await asker.rmqtt_authenticate(user, registered["token"], user)).json()["result"] == "allow"
    statuses = [(await asked.get("/devices")).status_code for _ in range(30)]
    assert 429 in statuses  # RATE_LIMIT is 20


async def test_failed_attempts_do_not_lock_out_the_device(asker: Asker, registered: dict[str, Any]) -> None:
    user, token = user_of(registered), registered["token"]
    for _ in range(50):
        assert (await asker.rmqtt_authenticate(user, token[:-3] + "AAA", user)).json()["result"] == "deny"
    assert (await asker.rmqtt_authenticate(user, token, user)).json()["result"] == "allow"


async def test_only_the_secret_is_valid_for_these_routes_and_for_no_others(
    asked_settings: Settings, database: Any
) -> None:
    made: Keys = await keys(database)
    closed = msgspec.structs.replace(asked_settings, auth="on", rate_limit=0)
    async with services.api(closed) as client:
        device = (await client.post("/devices", json={"name": "n"}, headers=bearer(made.admin))).json()
        shown: list[dict[str, str]] = [
            {}, bearer(made.admin), bearer(made.writer), bearer(device["token"]), bearer(f"{SECRET}x"),
            bearer(SECRET[:-1]), {"Authorization": SECRET}, {"Authorization": "Basic !"},
            {"Authorization": "Basic " + "A" * 8},
        ]  # fmt: skip
        for path in ("authenticate", "authorize", "go-auth/user", "go-auth/superuser", "go-auth/acl"):
            for headers in shown:
                answer = await client.post(f"/mqtt/{path}", json={"username": "device-1"}, headers=headers)
                assert answer.status_code == 401, (path, headers)
                assert answer.json()["type"] == "/problems/unauthenticated"
        for path in ("/devices", "/metrics", "/health/ready", f"/stats/{device['id']}"):
            assert (await client.get(path, headers=bearer(SECRET))).status_code == 401, path
        assert (await client.post("/devices", json={"name": "n"}, headers=bearer(SECRET))).status_code == 401
        assert (await Asker(client).emqx_authenticate("x", "y", "z")).json()["result"] == "deny"


async def test_without_the_setting_the_routes_do_not_exist(api: httpx.AsyncClient) -> None:
    for path in ("authenticate", "authorize", "go-auth/user", "go-auth/superuser", "go-auth/acl"):
        answer = await api.post(f"/mqtt/{path}", json={"username": "device-1"}, headers=bearer(SECRET))
        assert answer.status_code == 404
    assert "/mqtt/authenticate" not in (await api.get("/openapi.json")).text


async def test_the_document_describes_the_questions(asked: httpx.AsyncClient) -> None:
    document = (await asked.get("/openapi.json")).json()
    for path in ("authenticate", "authorize", "go-auth/user", "go-auth/superuser", "go-auth/acl"):
        operation = document["paths"][f"/mqtt/{path}"]["post"]
        assert operation["security"] == [{"broker": []}]
        assert operation["summary"]
        assert "requestBody" in operation
    assert "broker" in document["components"]["securitySchemes"]
    for name in ("Question", "Admission", "Answer"):
        assert all("description" in field for field in document["components"]["schemas"][name]["properties"].values())


async def test_the_answers_are_counted(asker: Asker, asked: httpx.AsyncClient, registered: dict[str, Any]) -> None:
    user = user_of(registered)
    await asker.emqx_authenticate(user, registered["token"], user)
    await asker.emqx_authenticate(user, "wrong", user)
    metrics = (await asked.get("/metrics")).text
    assert 'devicestat_mqtt_decisions_total{question="authenticate",result="allow"} 1.0' in metrics
    assert 'devicestat_mqtt_decisions_total{question="authenticate",result="deny"} 1.0' in metrics


async def test_a_key_with_a_placeholder_gets_no_rule(asker: Asker, asked: httpx.AsyncClient) -> None:
    device = (await asked.post("/devices", json={"name": "n", "key": "${clientid}"})).json()
    user = user_of(device)
    answer = (await asker.rmqtt_authenticate(user, device["token"], user)).json()
    assert answer["acl"] == [DENY_THE_REST]
    assert (await asker.rmqtt_authorize(user, user, "2", "devices/${clientid}/stats")).json()["result"] == "allow"


async def test_a_wrong_secret_of_a_broker_is_logged_once(
    asker: Asker, asked: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        await Asker(asked, f"{SECRET}x").emqx_authenticate("device-1", "x", "device-1")
    logged = capsys.readouterr().out
    assert logged.count("MQTT_AUTH_SECRET is missing or wrong") == 1
    assert SECRET not in logged
