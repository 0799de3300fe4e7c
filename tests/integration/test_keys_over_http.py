"""Keys and the audit log over HTTP, for admins."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from shared.access import audit
from shared.access import keys as access_keys
from shared.access.audit import Action, Filter
from shared.access.credentials import Role, digest
from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import services
from tests.command import run
from tests.credentials import TESTER, Keys, bearer, keys
from tests.integration.test_credentials import A_SECOND, expect_refusal_after
from tests.sign_in import OWN, sign_in


@pytest.fixture
async def made(database: Database) -> Keys:
    return await keys(database)


@pytest.fixture
async def api(api_settings: Settings, made: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """An API with AUTH on, and a client with an admin key."""
    async with services.api(msgspec.structs.replace(api_settings, auth="on")) as client:
        client.headers.update(bearer(made.admin))
        yield client


async def test_a_key_is_shown_once(api: httpx.AsyncClient, made: Keys, database: Database) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=90)
    answer = await api.post("/keys", json={"role": "analyst", "name": "Ada", "expires_at": ends.isoformat()})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    issued = answer.json()
    text = issued.pop("key")
    assert answer.headers["location"] == f"/keys/{issued['prefix']}"
    assert (issued["role"], issued["name"], issued["state"]) == ("analyst", "Ada", "valid")
    assert datetime.fromisoformat(issued["expires_at"]) == ends
    assert (await api.get(answer.headers["location"])).json() == issued
    (listed,) = [one for one in (await api.get("/keys")).json() if one["prefix"] == issued["prefix"]]
    assert listed == issued
    assert (await api.get("/devices", headers=bearer(text))).status_code == 200
    stored = await (await database.execute("SELECT hash FROM access_keys ORDER BY id DESC LIMIT 1")).fetchone()
    assert stored == (digest(text),)
    (entry, *_) = (await api.get("/audit")).json()
    assert (entry["actor"], entry["action"], entry["subject"]) == (
        made.admin[:12], "key.created", f"key {issued['prefix']}",
    )  # fmt: skip
    assert (entry["origin"], entry["database_role"]) == ("127.0.0.1", "devicestat_api")
    assert text not in str(entry)


async def test_the_command_and_the_api_see_the_same_keys(
    api: httpx.AsyncClient, api_settings: Settings, database_url: str
) -> None:
    issued = (await api.post("/keys", json={"role": "writer", "name": "gateway"})).json()
    listed = run("keys", "list", database_url=database_url)
    assert issued["prefix"] in listed.stdout
    assert run("keys", "revoke", issued["prefix"], database_url=database_url).returncode == 0
    assert (await api.get(f"/keys/{issued['prefix']}")).json()["state"] == "revoked"


async def test_keys_are_listed_by_state_and_page(api: httpx.AsyncClient) -> None:
    issued = [(await api.post("/keys", json={"role": "writer"})).json()["prefix"] for _ in range(5)]
    first = await api.get("/keys?limit=3&state=valid")
    second = await api.get(first.headers["link"].partition(">")[0].lstrip("<"))
    assert [one["prefix"] for one in first.json() + second.json()][:5] == issued[::-1]
    assert {one["state"] for one in (await api.get("/keys?state=revoked")).json()} == {"revoked"}
    assert {one["state"] for one in (await api.get("/keys?state=expired")).json()} == {"expired"}
    cursor = first.headers["x-next-cursor"]
    assert (await api.get(f"/keys?state=revoked&cursor={cursor}")).status_code == 400


async def test_a_revoked_key_and_its_sessions_are_refused_within_a_second(api: httpx.AsyncClient) -> None:
    issued = (await api.post("/keys", json={"role": "analyst"})).json()
    admin = api.headers.pop("authorization")
    session = await sign_in(api, issued["key"])
    api.headers["authorization"] = admin
    revoked = await api.delete(f"/keys/{issued['prefix']}")
    ended = asyncio.get_running_loop().time()
    assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
    api.headers.pop("authorization")
    await expect_refusal_after(ended, A_SECOND, api, bearer(issued["key"]))
    await expect_refusal_after(ended, A_SECOND, api, session)
    api.headers["authorization"] = admin
    again = await api.delete(f"/keys/{issued['prefix']}")
    assert (again.status_code, again.json()) == (200, revoked.json())


async def test_a_key_does_not_revoke_itself(api: httpx.AsyncClient, made: Keys) -> None:
    own = made.admin[:12]
    refused = await api.delete(f"/keys/{own}")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/own-key")
    api.headers.pop("authorization")
    session = await sign_in(api, made.admin)
    assert (await api.delete(f"/keys/{own}", headers={**session, **OWN})).status_code == 409
    rotated = (await api.post(f"/keys/{own}/rotate", json={}, headers={**session, **OWN})).json()
    assert (await api.get("/keys", headers=bearer(rotated["key"]))).status_code == 200
    assert (await api.delete(f"/keys/{rotated['prefix']}", headers=bearer(rotated["key"]))).status_code == 409


async def test_a_rotation_has_the_rules_of_the_command(api: httpx.AsyncClient, database: Database) -> None:
    old = (await api.post("/keys", json={"role": "analyst", "name": "plots"})).json()
    new = (await api.post(f"/keys/{old['prefix']}/rotate", json={"grace_s": 3600})).json()
    assert (new["role"], new["name"]) == ("analyst", "plots")
    graced = (await api.get(f"/keys/{old['prefix']}")).json()
    assert graced["state"] == "valid"
    assert datetime.fromisoformat(graced["expires_at"]) <= datetime.now(UTC) + timedelta(hours=1)
    await api.delete(f"/keys/{old['prefix']}")
    ended = await api.post(f"/keys/{old['prefix']}/rotate", json={})
    assert (ended.status_code, ended.json()["type"]) == (409, "/problems/key-ended")
    assert "POST /keys" in ended.json()["detail"]
    found = await audit.select(database, Filter(action=Action.KEY_ROTATED), 2**62, 10)
    assert [entry.detail["new_key"] for entry in found] == [new["prefix"]]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({}, "role"), ({"role": "root"}, "role"), ({"role": "admin", "name": "a\nb"}, "name"),
        ({"role": "admin", "name": "x" * 201}, "name"),
        ({"role": "admin", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"role": "admin", "expires_at": "tomorrow"}, "expires_at"), ({"role": "admin", "secret": "x"}, "secret"),
    ],
)  # fmt: skip
async def test_wrong_values_are_named(api: httpx.AsyncClient, form: dict[str, str], field: str) -> None:
    before = len((await api.get("/keys")).json())
    answer = await api.post("/keys", json=form)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert len((await api.get("/keys")).json()) == before


async def test_an_unknown_prefix_and_a_whole_key_are_not_found(api: httpx.AsyncClient, made: Keys) -> None:
    for path in ("/keys/dsk_00000000", "/keys/7", f"/keys/{made.analyst}"):
        for answer in (await api.get(path), await api.delete(path), await api.post(f"{path}/rotate", json={})):
            assert answer.status_code == 404
            assert made.analyst not in answer.json()["detail"]


async def test_the_audit_log_is_listed_newest_first(api: httpx.AsyncClient, made: Keys, database: Database) -> None:
    for number in range(4):
        await api.post("/devices", json={"name": f"n{number}"})
    everything = (await api.get("/audit?limit=10000")).json()
    assert [entry["id"] for entry in everything] == sorted((entry["id"] for entry in everything), reverse=True)
    actor = made.admin[:12]
    own = [entry for entry in everything if entry["actor"] == actor]
    assert {entry["action"] for entry in own} == {"device.created"}
    page = await api.get(f"/audit?actor={actor}&action=device.created&limit=3")
    rest = await api.get(page.headers["link"].partition(">")[0].lstrip("<"))
    assert page.json() + rest.json() == own
    assert (await api.get("/audit?actor=nobody")).json() == []
    assert {entry["action"] for entry in (await api.get("/audit?action=key.revoked")).json()} == {"key.revoked"}
    assert (await api.get("/audit?start=2020-01-01&end=2020-01-02")).json() == []
    assert len((await api.get("/audit?start=2020-01-01&limit=10000")).json()) == len(everything)
    unknown = await api.get("/audit?action=device.painted")
    assert unknown.status_code == 422
    assert (await api.get("/audit?actor=%00")).status_code == 422
    cursor = page.headers["x-next-cursor"]
    assert (await api.get(f"/audit?cursor={cursor}")).status_code == 400


PLAN = "EXPLAIN (FORMAT JSON) {}"
FILL = """
    INSERT INTO audit_log (actor, origin, action, subject)
    SELECT 'actor ' || n % 1000, 'here', CASE WHEN n % 1000 = 7 THEN 'key.created' ELSE 'device.created' END, 'x'
    FROM generate_series(1, 20000) AS n
"""


async def test_lists_of_the_audit_log_read_an_index(database: Database) -> None:
    await database.execute(FILL)
    await database.execute("ANALYZE audit_log")
    await database.execute("SET enable_seqscan = on")
    for wanted in (Filter(), Filter(actor="actor 5"), Filter(action=Action.KEY_CREATED)):
        plans: list[str] = []
        await _explained(database, wanted, plans)
        assert "Index" in plans[0], wanted
        assert "Seq Scan" not in plans[0], wanted


async def _explained(database: Database, wanted: Filter, plans: list[str]) -> None:
    """Add the plan of the query to the list."""
    given = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not None}
    query = audit.query(wanted)
    row = await (
        await database.execute(PLAN.format(query).encode(), {**given, "before": 2**62, "limit": 100})
    ).fetchone()
    assert row is not None
    plans.append(msgspec.json.format(msgspec.json.encode(row[0])).decode())


async def test_an_admin_is_created_while_auth_is_off(api_settings: Settings) -> None:
    async with services.api(api_settings) as api:
        issued = await api.post("/keys", json={"role": Role.ADMIN.value})
        assert (issued.status_code, issued.headers["cache-control"]) == (201, "no-store")
        assert (await api.get("/audit")).json()[0]["actor"] == "anonymous"
        assert (await api.delete(f"/keys/{issued.json()['prefix']}")).status_code == 200


async def test_a_failed_creation_leaves_no_key(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(access_keys, "record", fail)
    with pytest.raises(RuntimeError):
        await access_keys.create(database, TESTER, Role.ADMIN, "", None)
    assert await access_keys.all_keys(database) == []
