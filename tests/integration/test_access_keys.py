"""Keys in the database: what is kept of each, and that each change is done, and audited, once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.access import keys as access_keys
from shared.access.credentials import NewKey, Role, digest, new_key
from shared.access.keys import KeyState, all_keys, create, revoke, rotate
from shared.errors import LocalError
from shared.postgres.connections import connect
from tests.conftest import Database
from tests.credentials import TESTER

_AUDIT = "SELECT action, subject, detail FROM audit_log WHERE actor = %s ORDER BY id"
_KEPT = "SELECT prefix, hash FROM access_keys"
_WHOLE_ROWS = "SELECT k::text FROM access_keys k UNION ALL SELECT a::text FROM audit_log a"


async def audited(database: Database) -> list[tuple[str, str, dict[str, object]]]:
    return await (await database.execute(_AUDIT, (TESTER.name,))).fetchall()  # type: ignore[return-value]


async def test_only_the_hash_of_a_key_is_kept(database: Database) -> None:
    made = await create(database, TESTER, Role.WRITER, "a gateway", None)
    assert await (await database.execute(_KEPT)).fetchall() == [(made.prefix, digest(made.text))]
    secret = made.text.removeprefix(made.prefix)
    for (row,) in await (await database.execute(_WHOLE_ROWS)).fetchall():
        assert made.prefix in row
        assert secret not in row
    detail = {"role": "writer", "name": "a gateway", "expires_at": None}
    assert await audited(database) == [("key.created", f"key {made.prefix}", detail)]


async def test_a_prefix_that_another_key_has_is_not_used_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await create(database, TESTER, Role.ADMIN, "", None)
    same, other = new_key(), new_key()
    drawn = iter([NewKey(same.text, first.prefix, same.hash), other])
    monkeypatch.setattr(access_keys, "new_key", lambda: next(drawn))
    assert (await create(database, TESTER, Role.ADMIN, "", None)).prefix == other.prefix
    assert [key.prefix for key in await all_keys(database)] == [first.prefix, other.prefix]


async def test_revoking_twice_is_audited_once(database: Database, database_url: str) -> None:
    made = await create(database, TESTER, Role.ANALYST, "", None)

    async def revoke_it() -> KeyState:
        async with await connect(database_url, "test") as connection:
            return (await revoke(connection, TESTER, made.prefix)).state

    before = await asyncio.gather(*(revoke_it() for _ in range(4)))
    assert sorted(before) == [KeyState.REVOKED] * 3 + [KeyState.VALID]
    assert [action for action, *_ in await audited(database)] == ["key.created", "key.revoked"]


async def test_a_key_in_the_place_of_another_has_its_role_name_and_expiry(database: Database) -> None:
    ends = datetime.now(UTC) + timedelta(days=90)
    made = await create(database, TESTER, Role.ANALYST, "plots", ends)
    newer = await rotate(database, TESTER, made.prefix)
    later = ends + timedelta(days=90)
    newest = await rotate(database, TESTER, newer.prefix, expires_at=later, grace=timedelta(hours=1))
    keys = {key.prefix: key for key in await all_keys(database)}
    assert [keys[key.prefix].state for key in (made, newer, newest)] == [
        KeyState.REVOKED,
        KeyState.VALID,
        KeyState.VALID,
    ]
    assert {(key.role, key.name) for key in keys.values()} == {(Role.ANALYST, "plots")}
    assert keys[newest.prefix].expires_at == later
    assert (keys[newer.prefix].expires_at or ends) < datetime.now(UTC) + timedelta(hours=1, minutes=1)
    rotated = [(subject, detail) for action, subject, detail in await audited(database) if action == "key.rotated"]
    assert rotated == [
        (f"key {made.prefix}", {"new_key": newer.prefix, "grace_s": None}),
        (f"key {newer.prefix}", {"new_key": newest.prefix, "grace_s": 3600.0}),
    ]


async def test_grace_does_not_lengthen_a_key(database: Database) -> None:
    ends = datetime.now(UTC) + timedelta(minutes=5)
    made = await create(database, TESTER, Role.WRITER, "", ends)
    await rotate(database, TESTER, made.prefix, grace=timedelta(days=1))
    assert (await all_keys(database))[0].expires_at == ends


async def test_what_has_ended_is_not_rotated_and_nothing_is_written(database: Database) -> None:
    ended = await create(database, TESTER, Role.ADMIN, "", datetime.now(UTC) - timedelta(days=1))
    revoked = await create(database, TESTER, Role.WRITER, "", None)
    await revoke(database, TESTER, revoked.prefix)
    before = await audited(database)
    for made, state, role in ((ended, "expired", "admin"), (revoked, "revoked", "writer")):
        with pytest.raises(LocalError, match=f"{made.prefix} is {state}.*keys create --role {role}"):
            await rotate(database, TESTER, made.prefix)
    assert await audited(database) == before
    assert len(await all_keys(database)) == 2
