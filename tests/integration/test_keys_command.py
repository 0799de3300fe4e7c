"""`devicestat keys`; and a service that does not start open to the network without keys."""

import json
from collections.abc import Callable
from functools import partial

import httpx
import msgspec
import psycopg
import pytest

from shared.access.credentials import read
from shared.errors import LocalError
from shared.serving.closed import require_closed
from shared.settings import Settings
from tests.command import run
from tests.credentials import bearer
from tests.services import api as running_api
from tests.waiting import eventually

AUDIT = "SELECT action, subject, actor LIKE 'cli:%' FROM audit_log ORDER BY id"


@pytest.fixture
def keys(database_url: str) -> Callable[..., tuple[int, str, str]]:
    """Run `devicestat keys`; return exit code, standard output and standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        ran = run("keys", *arguments, database_url=database_url)
        return ran.returncode, ran.stdout, ran.stderr

    return command


def prefix_of(key: str) -> str:
    return key[:12]


async def test_a_key_is_made_used_rotated_and_revoked(
    keys: Callable[..., tuple[int, str, str]], api_settings: Settings, database_url: str
) -> None:
    code, printed, remarked = keys("create", "--role", "analyst", "--name", "Ada")
    key = printed.strip()
    assert code == 0
    assert printed == f"{key}\n"
    assert read(key) is not None
    assert key not in remarked
    async with running_api(msgspec.structs.replace(api_settings, auth="on")) as api:

        async def answers(shown: str) -> int:
            return (await api.get("/devices", headers=bearer(shown))).status_code

        assert await answers(key) == httpx.codes.OK
        code, printed, _ = keys("rotate", prefix_of(key))
        assert code == 0
        newer = printed.strip()
        assert prefix_of(newer) != prefix_of(key)
        assert await answers(newer) == httpx.codes.OK
        await eventually(partial(answers, key), lambda status: status == httpx.codes.UNAUTHORIZED)
        assert keys("revoke", prefix_of(newer))[0] == 0
    _, listed, _ = keys("list", "--all")
    for shown in (key, newer):
        assert prefix_of(shown) in listed
        assert shown not in listed
    assert "revoked" in listed
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(AUDIT).fetchall()
    made, rotated = f"key {prefix_of(key)}", f"key {prefix_of(newer)}"
    assert [row[:2] for row in rows] == [
        ("key.created", made),
        ("key.created", rotated),
        ("key.rotated", made),
        ("key.revoked", rotated),
    ]
    assert all(row[2] for row in rows)


def test_a_key_with_grace_ends_later(keys: Callable[..., tuple[int, str, str]], database_url: str) -> None:
    key = keys("create", "--role", "writer", "--expires", "90d")[1].strip()
    assert keys("rotate", prefix_of(key), "--grace", "24h")[0] == 0
    with psycopg.connect(database_url) as connection:
        ends = connection.execute(
            "SELECT revoked_at IS NULL, expires_at - now() BETWEEN '23 hours' AND '24 hours' "
            "FROM access_keys ORDER BY id"
        ).fetchall()
    assert ends[0] == (True, True)
    assert ends[1] == (True, False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("revoke", "dsk_aaaaaaaa"), "there is no key dsk_aaaaaaaa"),
        (("rotate", "dsk_aaaaaaaa"), "there is no key dsk_aaaaaaaa"),
        (("create", "--role", "owner"), "owner"),
        (("create", "--role", "admin", "--expires", "2020-01-01"), "2020-01-01"),
        (("create", "--role", "admin", "--expires", "soon"), "soon"),
    ],
)
def test_what_is_wrong_is_reported(
    arguments: tuple[str, ...], says: str, keys: Callable[..., tuple[int, str, str]]
) -> None:
    code, printed, remarked = keys(*arguments)
    assert code != 0
    assert printed == ""
    assert says in remarked


def test_a_key_given_for_its_prefix_is_never_shown(keys: Callable[..., tuple[int, str, str]]) -> None:
    key = keys("create", "--role", "admin")[1].strip()
    code, printed, remarked = keys("revoke", key)
    assert code == 0
    assert key not in printed + remarked
    assert prefix_of(key) in printed + remarked


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    require_closed(Settings(http_host=host), insecure=False)
    assert Settings(http_host=host).auth == "off"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_are_closed_by_default(host: str) -> None:
    with pytest.raises(LocalError, match="DEVICESTAT_AUTH=on"):
        require_closed(Settings(http_host=host), insecure=False)
    require_closed(Settings(http_host=host, auth="on"), insecure=False)


def test_serve_says_what_to_do_and_warns_at_every_start(database_url: str) -> None:
    refused = run("serve", database_url=database_url, http_host="0.0.0.0")
    assert refused.returncode == 1
    assert "--insecure" in refused.stderr
    # It ends because the database is missing, after the warning.
    allowed = run(
        "serve", "--insecure", http_host="0.0.0.0", http_port=0, log_format="json", start_timeout="1s",
        database_url="postgresql://nobody@127.0.0.1:1/none",
    )  # fmt: skip
    assert allowed.returncode == 1
    warning = json.loads(allowed.stderr.splitlines()[0])
    assert warning["level"] == "warning"
    assert "every client of this address may read, write and register" in warning["event"]
