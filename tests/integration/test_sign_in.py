"""Sessions of browsers: signing in and out, and everything that a foreign page or a forger may try."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from query_api.access import sessions
from query_api.web.answers.problems import Refused
from query_api.web.operating import sign_ins
from query_api.web.operating.sessions import MOST_COOKIES
from query_api.worker.cleaning.sessions import delete_some
from shared.access import keys as access_keys
from shared.access.credentials import Role, digest, new_session
from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import services
from tests.credentials import TESTER, Keys, bearer, key, keys
from tests.integration.test_credentials import A_SECOND, expect_refusal_after
from tests.ports import free_port
from tests.sign_in import OWN, PLAIN, SECURE, cookie, session_of, sign_in

FOREIGN_PAGES = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1"},
]
"""Headers of requests of other sites, and of other ports of this machine."""
HTTPS = {"X-Forwarded-Proto": "https", "Host": "devicestat.example.com", "Origin": "https://devicestat.example.com"}
AUDITED = "SELECT actor, action, subject, detail FROM audit_log WHERE action LIKE 'session.%%' ORDER BY id"


@pytest.fixture
def closed(api_settings: Settings) -> Settings:
    """Settings with AUTH on."""
    return msgspec.structs.replace(api_settings, auth="on")


@pytest.fixture
async def made(database: Database) -> Keys:
    return await keys(database)


@pytest.fixture
async def api(closed: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with services.api(closed) as client:
        yield client


async def test_a_key_is_exchanged_for_a_cookie(api: httpx.AsyncClient, made: Keys, database: Database) -> None:
    answer = await api.post("/session", json={"key": f" {made.analyst}\n"}, headers=OWN)
    assert answer.status_code == 201
    name, value, attributes = session_of(answer)
    assert name == PLAIN  # http on loopback
    assert attributes.keys() == {"httponly", "samesite", "path", "max-age"}
    assert (attributes["samesite"], attributes["path"]) == ("strict", "/")
    assert 0 < int(attributes["max-age"]) <= sessions.LASTS.total_seconds()
    assert answer.headers["cache-control"] == "no-store"
    described = answer.json()
    assert (described["by"], described["role"], described["may"]) == (
        "session",
        "analyst",
        ["read", "queue", "metrics"],
    )
    api.cookies.clear()
    shown = await api.get("/session", headers=cookie(value))
    assert shown.json() == described
    assert (await api.get("/devices", headers=cookie(value))).status_code == 200
    assert (await api.get("/metrics", headers=cookie(value))).status_code == 200
    assert await (await database.execute("SELECT hash FROM sessions")).fetchall() == [(digest(value),)]
    assert value not in str(await (await database.execute("SELECT s::text FROM sessions s")).fetchall())
    prefix = made.analyst[:12]
    expected = (prefix, "session.created", f"key {prefix}", {})
    assert await (await database.execute(AUDITED.encode())).fetchall() == [expected]


async def test_over_https_the_cookie_is_secure_and_belongs_to_the_host(closed: Settings, made: Keys) -> None:
    settings = msgspec.structs.replace(closed, trusted_proxies="127.0.0.1")
    async with services.api(settings) as api:
        answer = await api.post("/session", json={"key": made.admin}, headers=HTTPS)
        name, value, attributes = session_of(answer)
        api.cookies.clear()
        assert name == SECURE
        assert attributes.keys() == {"httponly", "samesite", "path", "max-age", "secure"}
        assert (await api.get("/devices", headers={**HTTPS, **cookie(value, SECURE)})).status_code == 200
        # Another program of the host, or an attacker on the network, can set a cookie without the prefix.
        assert (await api.get("/devices", headers={**HTTPS, **cookie(value, PLAIN)})).status_code == 401
        created = await api.post("/devices", json={"name": "n"}, headers={**HTTPS, **cookie(value, SECURE)})
        assert created.status_code == 201


async def test_over_http_from_another_machine_nobody_signs_in(api: httpx.AsyncClient, made: Keys) -> None:
    answer = await api.post("/session", json={"key": made.admin}, headers={"Host": "devicestat.example.com", **OWN})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/insecure-connection")
    assert "set-cookie" not in answer.headers
    for host in ("localhost", "127.0.0.1:80", "[::1]:8000"):
        assert (await api.post("/session", json={"key": made.admin}, headers={"Host": host, **OWN})).status_code == 201
        api.cookies.clear()


async def test_a_proxy_that_is_not_trusted_gets_a_secure_cookie_by_the_origin(
    api: httpx.AsyncClient, made: Keys
) -> None:
    headers = {"Host": "localhost:8000", "Origin": "https://devicestat.example.com", **OWN}
    name, value, attributes = session_of(await api.post("/session", json={"key": made.admin}, headers=headers))
    api.cookies.clear()
    assert (name, "secure" in attributes) == (SECURE, True)
    assert (await api.get("/devices", headers=cookie(value, SECURE))).status_code == 200


async def test_only_keys_sign_in(api: httpx.AsyncClient, made: Keys, database: Database) -> None:
    token = (await api.post("/devices", json={"name": "n"}, headers=bearer(made.admin))).json()["token"]
    for given in (
        made.revoked,
        made.expired,
        made.unknown,
        made.other_secret,
        token,
        new_session(secure=False).text,
        "",
        "dsk_nonsense",
    ):
        answer = await api.post("/session", json={"key": given}, headers=OWN)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert not given or given not in answer.text
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "device's token" in (await api.post("/session", json={"key": token}, headers=OWN)).json()["detail"]
    assert await (await database.execute("SELECT count(*) FROM sessions")).fetchone() == (0,)
    for given in (made.analyst, made.writer):
        session = await sign_in(api, given)
        own = (await api.get("/session", headers=session)).json()
        assert own["prefix"] == given[:12]
    assert (await api.get("/devices", headers=session)).status_code == 403  # of the writer


@pytest.mark.parametrize("form", [{}, {"key": 5}, {"key": None}, {"key": "x", "password": "y"}, []])
async def test_other_bodies_are_refused(api: httpx.AsyncClient, form: object) -> None:
    assert (await api.post("/session", json=form, headers=OWN)).status_code == 422


# Forged and stolen cookies


async def test_made_up_sessions_are_refused(api: httpx.AsyncClient, made: Keys) -> None:
    session = await sign_in(api, made.admin)
    value = session["Cookie"].partition("=")[2]
    for forged in (
        "", "x", "dss_", new_session(secure=False).text, value[:-1] + ("A" if value[-1] != "A" else "B"), f"{value}x",
        value.upper(), made.admin, f'"{value}"', "dss_" + "'" * 43,
    ):  # fmt: skip
        answer = await api.get("/devices", headers=cookie(forged))
        assert answer.status_code == 401, forged
    twice = {"Cookie": f"{PLAIN}={value}; {PLAIN}={new_session(secure=False).text}"}
    assert (await api.get("/devices", headers=twice)).status_code == 401
    beside = {"Cookie": f"theme=dark; {PLAIN}={value}; other=1"}
    assert (await api.get("/devices", headers=beside)).status_code == 200
    assert (await api.get("/devices", headers=bearer(value))).status_code == 401  # a session is for cookies only


async def test_a_bearer_credential_takes_precedence(api: httpx.AsyncClient, made: Keys) -> None:
    session = await sign_in(api, made.admin)
    assert (await api.get("/session", headers={**session, **bearer(made.writer)})).json()["role"] == "writer"
    for wrong in (bearer(made.revoked), bearer("a b"), bearer("="), {"Authorization": "bEARER x"}):
        assert (await api.get("/devices", headers={**session, **wrong})).status_code == 401
    basic = {"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="}  # of a proxy
    assert (await api.get("/session", headers={**session, **basic})).json()["role"] == "admin"
    created = await api.post("/devices", json={"name": "n"}, headers={**bearer(made.admin), **FOREIGN_PAGES[0]})
    assert created.status_code == 201  # a page that knows a key may use it


async def test_a_session_of_before_ends_at_sign_in(api: httpx.AsyncClient, made: Keys) -> None:
    """A session that an attacker planted in the browser is useless: the sign-in creates another secret."""
    planted = await sign_in(api, made.writer)
    own = await sign_in(api, made.admin, {**OWN, **planted})
    assert own != planted
    assert (await api.get("/session", headers=own)).json()["role"] == "admin"
    assert (await api.get("/session", headers=planted)).status_code == 401
    chosen = cookie(new_session(secure=False).text)
    assert await sign_in(api, made.admin, {**OWN, **chosen}) != chosen
    assert (await api.get("/devices", headers=chosen)).status_code == 401


# Other pages


@pytest.mark.parametrize("headers", FOREIGN_PAGES)
async def test_other_pages_change_nothing(api: httpx.AsyncClient, made: Keys, headers: dict[str, str]) -> None:
    session = await sign_in(api, made.admin)
    device = (await api.post("/devices", json={"name": "n"}, headers={**session, **OWN})).json()["id"]
    for method, path, body in (
        ("POST", "/devices", {"name": "theirs"}), ("DELETE", f"/devices/{device}", None),
        ("PATCH", f"/devices/{device}", {"name": "theirs"}), ("POST", f"/devices/{device}/token", None),
        ("POST", "/stats", {"device_id": device, "x": 1, "y": 2, "z": 3}), ("DELETE", "/session", None),
        ("POST", "/session", {"key": made.writer}),
    ):  # fmt: skip
        answer = await api.request(method, path, json=body, headers={**session, **headers})
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/foreign-page"), path
    (unchanged,) = (await api.get("/devices", headers=session)).json()
    assert (unchanged["name"], unchanged["readings"]) == ("n", 0)
    assert (await api.get("/session", headers=session)).json()["role"] == "admin"


async def test_a_request_from_no_page_changes_nothing_by_cookie(api: httpx.AsyncClient, made: Keys) -> None:
    session = await sign_in(api, made.admin)
    answer = await api.post("/devices", json={"name": "n"}, headers=session)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/foreign-page")
    own = {"Origin": str(api.base_url).rstrip("/")}  # a browser from before Sec-Fetch-Site
    assert (await api.post("/devices", json={"name": "n"}, headers={**session, **own})).status_code == 201
    assert (await api.get("/devices", headers=session)).status_code == 200


async def test_pages_of_cors_origins_have_no_session(closed: Settings, made: Keys) -> None:
    plots = {"Origin": "https://plots.example.com", "Sec-Fetch-Site": "cross-site"}
    for origins in ("https://plots.example.com", "*"):
        async with services.api(msgspec.structs.replace(closed, cors_origins=origins)) as api:
            session = await sign_in(api, made.admin)
            assert (await api.post("/devices", json={"name": "n"}, headers={**session, **plots})).status_code == 403
            answer = await api.get("/devices", headers={**session, **plots})
            assert "access-control-allow-credentials" not in answer.headers
            asked = {**plots, "Access-Control-Request-Method": "POST"}
            assert "access-control-allow-credentials" not in (await api.options("/devices", headers=asked)).headers


# The end of a session


async def test_a_session_ends_within_a_second_of_its_key_in_every_process(closed: Settings, database: Database) -> None:
    async with AsyncExitStack() as stack:
        apis = []
        for _ in range(2):
            settings = msgspec.structs.replace(closed, http_port=free_port())
            apis.append(await stack.enter_async_context(services.api(settings)))
        for ends in (access_keys.revoke, access_keys.rotate):
            made = await access_keys.create(database, TESTER, Role.ANALYST, "", None)
            session = await sign_in(apis[0], made.text)
            for api in apis:
                assert (await api.get("/devices", headers=session)).status_code == 200
            await ends(database, TESTER, made.prefix)
            ended = asyncio.get_running_loop().time()
            for api in apis:
                await expect_refusal_after(ended, A_SECOND, api, session)


async def test_a_session_does_not_outlive_its_key(api: httpx.AsyncClient, database: Database) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    made = await access_keys.create(database, TESTER, Role.ANALYST, "Ada", ends)
    session = await sign_in(api, made.text)
    shown = (await api.get("/session", headers=session)).json()
    assert (datetime.fromisoformat(shown["expires_at"]), shown["name"]) == (ends, "Ada")
    await access_keys.rotate(database, TESTER, made.prefix, grace=timedelta(minutes=1))
    shown = (await api.get("/session", headers=session)).json()
    assert datetime.fromisoformat(shown["expires_at"]) < ends
    await database.execute("UPDATE access_keys SET expires_at = now()")
    await expect_refusal_after(asyncio.get_running_loop().time(), A_SECOND, api, session)


@pytest.mark.parametrize(
    "ages",
    [
        "UPDATE sessions SET expires_at = created_at + interval '1 us'",
        "UPDATE sessions SET last_used_at = now() - interval '25 h'",
    ],
)
async def test_a_session_ends_by_itself(api: httpx.AsyncClient, made: Keys, database: Database, ages: str) -> None:
    session = await sign_in(api, made.admin)
    await database.execute(ages.encode())
    assert (await api.get("/devices", headers=session)).status_code == 401
    kept = await sign_in(api, made.admin)
    assert await delete_some(database) == 1
    assert (await api.get("/devices", headers=kept)).status_code == 200


async def test_after_signing_out_the_cookie_is_worthless(closed: Settings, made: Keys, database: Database) -> None:
    other = msgspec.structs.replace(closed, http_port=free_port())
    async with services.api(closed) as api, services.api(other) as another:
        session, kept = await sign_in(api, made.admin), await sign_in(api, made.admin)
        for process in (api, another):
            assert (await process.get("/devices", headers=session)).status_code == 200
        answer = await api.delete("/session", headers={**session, **OWN})
        ended = asyncio.get_running_loop().time()
        assert answer.status_code == 204
        name, value, attributes = session_of(answer)
        assert (name, value, attributes["max-age"]) == (PLAIN, "", "0")
        api.cookies.clear()
        assert (await api.get("/devices", headers=session)).status_code == 401
        await expect_refusal_after(ended, A_SECOND, another, session)
        assert (await api.get("/devices", headers=kept)).status_code == 200
        assert (await api.delete("/session", headers={**session, **OWN})).status_code == 204  # again
        assert (await api.delete("/session", headers={"Cookie": "theme=dark"})).status_code == 204
    rows = await (await database.execute(AUDITED.encode())).fetchall()
    assert [action for _, action, *_ in rows] == ["session.created", "session.created", "session.ended"]


async def test_a_key_has_a_bounded_number_of_sessions(
    api: httpx.AsyncClient, made: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST", 2)
    other = await sign_in(api, made.analyst)
    signed_in = [await sign_in(api, made.admin) for _ in range(3)]
    statuses = [(await api.get("/session", headers=one)).status_code for one in (other, *signed_in)]
    assert statuses == [200, 401, 200, 200]


async def test_the_last_use_of_a_session_is_recorded(closed: Settings, made: Keys, database: Database) -> None:
    async with services.api(closed) as api:
        session = await sign_in(api, made.admin)
        await database.execute("UPDATE sessions SET last_used_at = now() - interval '1 h'")
        assert (await api.get("/devices", headers=session)).status_code == 200
    found = await database.execute("SELECT last_used_at > now() - interval '1 min' FROM sessions")
    assert await found.fetchall() == [(True,)]


# Limits and records


async def test_refused_attempts_are_limited_and_their_records_bounded(
    api: httpx.AsyncClient, made: Keys, database: Database
) -> None:
    for _ in range(sign_ins.ATTEMPTS + sign_ins.ATTEMPTS_OF_KEY):
        assert (await api.post("/session", json={"key": made.unknown}, headers=OWN)).status_code == 401
    for text in (made.unknown, "no key"):
        answer = await api.post("/session", json={"key": text}, headers=OWN)
        assert (answer.status_code, answer.json()["type"]) == (429, "/problems/too-many-requests")
        assert 0 < int(answer.headers["retry-after"]) <= sign_ins.WINDOW_S
    rows = await (await database.execute(AUDITED.encode())).fetchall()
    subject = f"key {made.unknown[:12]}"
    assert rows == [("unknown", "session.refused", subject, {"unrecorded_before": 0})]


async def test_others_cannot_keep_the_people_of_an_address_from_signing_in(api: httpx.AsyncClient, made: Keys) -> None:
    for _ in range(sign_ins.ATTEMPTS + 10):
        await api.post("/session", json={"key": "nonsense"}, headers=OWN)
    for _ in range(sign_ins.ATTEMPTS_OF_KEY + 1):
        assert (await api.post("/session", json={"key": made.analyst}, headers=OWN)).status_code == 201
        api.cookies.clear()


async def test_sign_ins_that_succeed_are_not_limited(api: httpx.AsyncClient, made: Keys) -> None:
    for _ in range(sign_ins.ATTEMPTS + sign_ins.ATTEMPTS_OF_KEY + 1):
        await sign_in(api, made.analyst)


async def test_attempts_beyond_the_limit_are_in_the_next_record(database: Database) -> None:
    attempts = sign_ins.SignIns(lambda: 0.0)
    for _ in range(sign_ins.ATTEMPTS):
        attempts.require_place("192.0.2.1", "nonsense")
    for _ in range(7):
        with pytest.raises(Refused):
            attempts.require_place("192.0.2.1", "nonsense")
    await attempts.record_refusal(database, "nonsense", "192.0.2.2")
    ((*_, detail),) = await (await database.execute(AUDITED.encode())).fetchall()
    assert detail == {"unrecorded_before": 7}


async def test_a_session_is_valid_only_in_the_cookie_of_its_kind(api: httpx.AsyncClient, made: Keys) -> None:
    """Otherwise a page of a sibling domain could plant its own session as a cookie without the prefix."""
    https = {"Host": "localhost:8000", "Origin": "https://devicestat.example.com", **OWN}
    for headers, name, other in ((https, SECURE, PLAIN), (OWN, PLAIN, SECURE)):
        own, value, _ = session_of(await api.post("/session", json={"key": made.analyst}, headers=headers))
        api.cookies.clear()
        assert own == name
        assert (await api.get("/session", headers=cookie(value, name))).status_code == 200
        assert (await api.get("/session", headers=cookie(value, other))).status_code == 401
    elsewhere = {"Host": "devicestat.example.com", **cookie(value, PLAIN)}
    assert (await api.get("/session", headers=elsewhere)).status_code == 401


async def test_one_request_ends_few_sessions(api: httpx.AsyncClient, made: Keys, database: Database) -> None:
    cookies = [(await sign_in(api, made.analyst))["Cookie"] for _ in range(MOST_COOKIES + 2)]
    answer = await api.delete("/session", headers={"Cookie": "; ".join([*cookies, *cookies]), **OWN})
    assert answer.status_code == 204
    assert await (await database.execute("SELECT count(*) FROM sessions")).fetchone() == (2,)


async def test_errors_do_not_repeat_a_key(api: httpx.AsyncClient, made: Keys) -> None:
    for body in (made.analyst, {made.analyst: 1}, {"key": "x", made.analyst: 1}, {"key": {"a": made.analyst}}):
        answer = await api.post("/session", json=body, headers=OWN)
        assert (answer.status_code, answer.headers["cache-control"]) == (422, "no-store")
        assert made.analyst[13:] not in answer.text
    answer = await api.get(f"/keys/{made.analyst}", headers=bearer(made.admin))
    assert answer.status_code == 404
    assert answer.json()["instance"] == f"/keys/{made.analyst[:12]}_***"


async def test_refusals_that_are_not_recorded_are_counted(database: Database) -> None:
    now = 0.0
    attempts = sign_ins.SignIns(lambda: now)
    for number in range(sign_ins.RECORDED + 5):
        for _ in range(2):
            await attempts.record_refusal(database, "secret words", f"192.0.2.{number}")
    now = sign_ins.WINDOW_S
    await attempts.record_refusal(database, "secret words", "192.0.2.1")
    rows = await (await database.execute(AUDITED.encode())).fetchall()
    assert len(rows) == sign_ins.RECORDED + 1
    assert sum(detail["unrecorded_before"] for *_, detail in rows) == sign_ins.RECORDED + 10
    assert {subject for _, _, subject, _ in rows} == {"no key"}


# Without authentication, and by a key


async def test_while_auth_is_off_anybody_may_do_everything(api_settings: Settings, made: Keys) -> None:
    async with services.api(api_settings) as api:
        shown = (await api.get("/session")).json()
        assert (shown["by"], shown["role"], shown["prefix"], shown["expires_at"]) == ("nothing", "admin", None, None)
        assert set(shown["may"]) == {"read", "queue", "store", "administer", "metrics"}
        answer = await api.post("/session", json={"key": made.admin})
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/authentication-off")
        assert (await api.delete("/session")).status_code == 204


async def test_a_key_and_a_token_are_described_too(api: httpx.AsyncClient, made: Keys) -> None:
    assert (await api.get("/session")).status_code == 401
    device = (await api.post("/devices", json={"name": "n"}, headers=bearer(made.admin))).json()
    by_token = (await api.get("/session", headers=bearer(device["token"]))).json()
    assert (by_token["by"], by_token["role"], by_token["device_id"], by_token["may"]) == (
        "token", "device", device["id"], ["store"],
    )  # fmt: skip
    by_key = (await api.get("/session", headers=bearer(made.writer))).json()
    assert (by_key["by"], by_key["name"], by_key["expires_at"]) == ("key", "writer of a test", None)


async def test_a_download_and_a_live_stream_work_by_cookie(
    api: httpx.AsyncClient, made: Keys, database: Database
) -> None:
    limited = await key(database, Role.ANALYST)
    device = (await api.post("/devices", json={"name": "n"}, headers=bearer(made.admin))).json()["id"]
    session = await sign_in(api, limited)
    assert (await api.get(f"/stats/{device}.csv", headers=session)).text.startswith("id,device_id")
    async with api.stream("GET", f"/stats/{device}/live", headers=session) as stream:
        lines = stream.aiter_lines()
        assert (await anext(lines)).startswith("retry:")
        reading = {"device_id": device, "x": 1, "y": 2, "z": 3}
        assert (await api.post("/stats", json=reading, headers=bearer(made.admin))).status_code == 201
        assert "event: reading" in [await anext(lines) for _ in range(4)]
        await access_keys.revoke(database, TESTER, limited[:12])
        rest = [line async for line in lines]
    assert "event: end" in rest
