"""Privileges of each service's role, compared with the catalogs, so that a new table without a decision fails."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, InvalidParameterValue, ObjectInUse, ObjectNotInPrerequisiteState

from deploy.local.postgres import EmbeddedPostgres
from shared.errors import DatabaseError
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from shared.postgres.roles import SERVICES, set_up
from tests import citus
from tests.command import run
from tests.conftest import Broker, Database
from tests.roles import url_as

# S SELECT, I INSERT, U UPDATE, D DELETE; in lower case: for some columns only. No role has other privileges.
MAY = {
    #                          ingestor  api     worker
    "access_keys":             ("",     "Siu",  ""),
    "analysis_callbacks":      ("",     "Siu",  "Siu"),
    "analysis_requests":       ("",     "Siu",  "SiuD"),
    "analysis_results":        ("",     "SD",   "i"),
    "analysis_schedules":      ("",     "SIUD", "SuD"),
    "analysis_ticks":          ("",     "S",    "SiuD"),
    "audit_log":               ("",     "Si",   ""),
    "block_columns":           ("",     "S",    "SID"),
    "block_values":            ("",     "S",    "SID"),
    "blocks":                  ("",     "S",    "SIUD"),
    "broker_outbox":           ("",     "SiD",  "SiD"),
    "dead_letters":            ("siu",  "SuD",  "suD"),
    "deleted_devices":         ("S",    "Si",   "SuD"),
    "device_activity":         ("",     "S",    "Su"),
    "device_activity_round":   ("",     "S",    "U"),
    "device_extents":          ("SIU",  "SIU",  "SD"),
    "device_tokens":           ("",     "SIU",  "S"),
    "devices":                 ("Si",   "SiuD", "Su"),
    "hidden_months":           ("",     "S",    "S"),
    "ingest_journal":          ("SID",  "",     ""),
    "ingest_subscriptions":    ("SID",  "",     ""),
    "late_readings":           ("I",    "SI",   "SD"),
    "process_status":          ("S",    "S",    "S"),
    "readings":                ("I",    "SI",   "SD"),
    "a month":                 ("",     "S",    ""),
    "retiring_months":         ("",     "S",    "SI"),
    "schema_migrations":       ("S",    "S",    "S"),
    "sealed_devices":          ("s",    "S",    "SIUD"),
    "sealed_until":            ("",     "S",    "SIUD"),
    "sessions":                ("",     "SiuD", "sD"),
    "shown_analysis_requests": ("",     "S",    "S"),
    "suspected_blocks":        ("",     "I",    "SID"),
}  # fmt: skip
PRIVILEGES = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE", "T": "TRUNCATE", "G": "TRIGGER"}
FUNCTIONS = {
    "access_keys_only_end": "",
    "analysis_request_ended": "",
    "audit_log_is_append_only": "",
    "begin_device_activity": "",
    "broker_outbox_filled": "",
    "close_deletion_fence": "api",
    "complete_dead_letter": "",
    "copy_sealed": "",
    "detach_readings_month": "worker",
    "devices_deleted_since": "ingestor",
    "devices_of_month": "",
    "drop_empty_readings_month": "worker",
    "drop_readings_month": "worker",
    "empty_readings_months": "worker",
    "ensure_readings_partition": "ingestor api worker",
    "expire_access_keys": "worker",
    "expire_audit_entries": "worker",
    "expire_journals": "worker",
    "expire_subscriptions": "worker",
    "find_device_extents": "",
    "find_extents_of_month": "worker",
    "is_distributed": "ingestor api worker",
    "pass_deletion_fence": "ingestor api",
    "pass_fence": "ingestor api",
    "rename_device_activity": "",
    "report_process": "ingestor api worker",
    "store_late_readings": "ingestor api",
    "store_readings": "api",
    "trigrams": "ingestor api",
    "unseal_readings": "",
    "withdraw_process": "ingestor api worker",
}
SEQUENCES = {"devices_id_seq": "api", "readings_id_seq": "api", "sealed_devices_number_seq": "worker"}

HELD = """
    SELECT CASE WHEN relname ~ '^readings_[0-9]{4}_[0-9]{2}$' THEN 'a month' ELSE relname END, role, string_agg(CASE
        WHEN has_table_privilege(role, pg_class.oid, privilege) THEN letter
        WHEN privilege IN ('SELECT', 'INSERT', 'UPDATE') AND has_any_column_privilege(role, pg_class.oid, privilege)
        THEN lower(letter) ELSE '' END, '' ORDER BY position)
    FROM pg_class, unnest(%s::text[]) AS role, unnest(%s::text[], %s::text[]) WITH ORDINALITY
         AS asked (letter, privilege, position)
    WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
    GROUP BY pg_class.oid, role
"""


async def test_each_role_may_do_with_each_table_what_was_decided(database: Database) -> None:
    asked = (list(SERVICES.values()), list(PRIVILEGES), list(PRIVILEGES.values()))
    held: dict[str, dict[str, str]] = {}
    for table, role, letters in await (await database.execute(HELD.encode(), asked)).fetchall():
        assert held.setdefault(table, {}).setdefault(role, letters) == letters, "months differ"
    expected = {table: dict(zip(SERVICES.values(), letters, strict=True)) for table, letters in MAY.items()}
    assert held == expected


EXECUTE = """
    SELECT proname, string_agg(service, ' ' ORDER BY position)
                    FILTER (WHERE has_function_privilege(role, oid, 'EXECUTE'))
    FROM pg_proc, unnest(%s::text[], %s::text[]) WITH ORDINALITY AS one (service, role, position)
    WHERE pronamespace = current_schema()::regnamespace GROUP BY oid
"""
USE = """
    SELECT relname, string_agg(service, ' ' ORDER BY position)
    FROM pg_class, unnest(%s::text[], %s::text[]) WITH ORDINALITY AS one (service, role, position)
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'S'
      AND has_sequence_privilege(role, pg_class.oid, 'USAGE, SELECT, UPDATE') GROUP BY relname
"""


async def test_each_role_may_call_what_was_decided(database: Database) -> None:
    asked = (list(SERVICES), list(SERVICES.values()))
    rows = await (await database.execute(EXECUTE, asked)).fetchall()
    assert {name: services or "" for name, services in rows} == FUNCTIONS
    assert dict(await (await database.execute(USE, asked)).fetchall()) == SEQUENCES


async def refused(url: str, *statements: str) -> None:
    """Assert that each statement is refused for lack of a privilege."""
    async with await connect(url, "test") as connection:
        for statement in statements:
            with pytest.raises(InsufficientPrivilege):
                await connection.execute(statement.encode())


MAKING = (
    "CREATE TABLE mine ()",
    "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "SET ROLE devicestat_partitions",
    "ALTER TABLE devices ADD COLUMN mine integer",
    "DROP TABLE devices",
    "COPY devices TO PROGRAM 'cat'",
)
MAKING_TEMPORARY = (
    "CREATE TEMPORARY TABLE mine ()",
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql RETURN 1",
)


@pytest.mark.parametrize("service", SERVICES)
async def test_no_role_makes_tables_or_functions(service: str, database_url: str) -> None:
    url = url_as(database_url, service)
    await refused(url, *MAKING)
    if service != "ingestor":
        await refused(url, *MAKING_TEMPORARY, "SET ROLE devicestat_ingestor")


async def test_as_the_owner_of_readings_the_worker_makes_nothing_either(database_url: str) -> None:
    url = url_as(database_url, "worker")
    async with await connect(url, "test") as connection:
        await connection.execute("SET ROLE devicestat_readings")
    await refused(url, *(f"SET ROLE devicestat_readings; {statement}" for statement in (*MAKING, *MAKING_TEMPORARY)))
    for service in ("ingestor", "api"):
        await refused(url_as(database_url, service), "SET ROLE devicestat_readings")


CHANGES = ("UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log")


async def test_what_was_done_stays_written_down(database: Database, database_url: str) -> None:
    for service in SERVICES:
        await refused(url_as(database_url, service), *CHANGES)
        if service != "api":
            await refused(url_as(database_url, service), "SELECT FROM audit_log", "SELECT hash FROM sessions")
    await refused(database_url, *CHANGES)


async def test_the_api_says_neither_when_it_was_nor_as_whom(database: Database, database_url: str) -> None:
    url = url_as(database_url, "api")
    into = "INSERT INTO audit_log (actor, origin, action, subject{}) VALUES ('me', 'here', 'key.created', 'x'{})"
    await refused(url, into.format(", at", ", '2000-01-01'"), into.format(", database_role", ", 'postgres'"))
    async with await connect(url, "test") as api:
        await api.execute(into.format("", "").encode())
    rows = await (
        await database.execute("SELECT actor, database_role, at > now() - interval '1 min' FROM audit_log")
    ).fetchall()
    assert rows == [("me", "devicestat_api", True)]


KEY = "INSERT INTO access_keys (prefix, hash, role) VALUES ('dsk_00000000', sha256('x'), 'admin')"


async def test_a_key_that_has_ended_stays_so(database: Database, database_url: str) -> None:
    """The trigger holds for every role, and so for the API, which may end keys."""
    await database.execute(KEY)
    await database.execute("UPDATE access_keys SET expires_at = now() + interval '1 h', revoked_at = now()")
    for url in (url_as(database_url, "api"), database_url):
        await refused(
            url,
            "UPDATE access_keys SET revoked_at = NULL",
            "UPDATE access_keys SET revoked_at = now() + interval '1 d'",
            "UPDATE access_keys SET expires_at = NULL",
            "UPDATE access_keys SET expires_at = expires_at + interval '1 us'",
        )
    await refused(database_url, "UPDATE access_keys SET role = 'writer'", "UPDATE access_keys SET hash = sha256('y')")
    async with await connect(url_as(database_url, "api"), "test") as api:
        await api.execute("UPDATE access_keys SET last_used_at = now(), expires_at = now()")


async def test_the_api_changes_keys_only_as_it_needs_to(database: Database, database_url: str) -> None:
    await database.execute(KEY)
    await refused(
        url_as(database_url, "api"),
        "UPDATE access_keys SET role = 'admin'",
        "UPDATE access_keys SET hash = sha256('y')",
        "UPDATE access_keys SET name = 'mine'",
        "INSERT INTO access_keys (prefix, hash, role, last_used_at) VALUES ('x', sha256('x'), 'admin', now())",
        "DELETE FROM access_keys",
        "UPDATE sessions SET expires_at = expires_at + interval '1 d'",
        "UPDATE sessions SET key_id = 1",
        "SELECT FROM ingest_journal",
    )


async def test_the_ingestor_reads_no_readings_and_no_payloads(database_url: str) -> None:
    await refused(
        url_as(database_url, "ingestor"),
        "SELECT x FROM readings",
        "SELECT payload FROM dead_letters",
        "SELECT FROM device_tokens",
        "INSERT INTO devices (id, key, name) VALUES (7, '7', '7')",
    )


# Months


MONTHS = (
    r"SELECT relname, pg_get_userbyid(relowner) FROM pg_class WHERE relname IN ('readings_2031_01', 'readings_2031_02')"
)
MAKE = "SELECT ensure_readings_partition('2031-01-15')"
DROP = "SELECT drop_readings_month(%s)"
DETACH = "ALTER TABLE readings DETACH PARTITION readings_2031_01"


async def test_the_ingestor_makes_months_and_drops_none(database: Database, database_url: str) -> None:
    async with await connect(url_as(database_url, "ingestor"), "test") as ingestor:
        await ingestor.execute(MAKE)
    assert await (await database.execute(MONTHS)).fetchall() == [("readings_2031_01", "devicestat_partitions")]
    statements = (DETACH, "DROP TABLE readings_2031_01", "SELECT drop_readings_month('readings_2031_01')")
    for service in ("ingestor", "api"):
        await refused(url_as(database_url, service), *statements)
    await refused(
        url_as(database_url, "worker"), DETACH, "DROP TABLE readings_2031_01"
    )  # before it sets the owner's role


async def test_a_month_is_dropped_only_once_it_is_detached_and_nothing_else_is(
    database: Database, database_url: str
) -> None:
    async with await connect(url_as(database_url, "worker"), "test") as worker:
        await worker.execute(MAKE)
        with pytest.raises(ObjectInUse, match="readings_2031_01 is still a part of readings"):
            await worker.execute(DROP, ("readings_2031_01",))
        for name in ("devices", "readings", 'readings_2031_01"; DROP TABLE devices; --', "public.readings_2031_01"):
            with pytest.raises(InvalidParameterValue, match="is no month of readings"):
                await worker.execute(DROP, (name,))
        await database.execute(DETACH)
        await worker.execute(DROP, ("readings_2031_01",))
    assert await (await database.execute(MONTHS)).fetchall() == []


async def test_a_month_is_detached_by_a_function_on_a_cluster_only(database: Database, database_url: str) -> None:
    detach = "SELECT detach_readings_month(%s)"
    async with await connect(url_as(database_url, "worker"), "test") as worker:
        await worker.execute(MAKE)
        for name in ("devices", 'readings_2031_01"; DROP TABLE devices; --', "public.readings_2031_01"):
            with pytest.raises(InvalidParameterValue, match="is no month of readings"):
                await worker.execute(detach, (name,))
        if citus.WORKERS:
            await worker.execute(detach, ("readings_2031_01",))
            await worker.execute(DROP, ("readings_2031_01",))
        else:
            with pytest.raises(ObjectNotInPrerequisiteState, match="readings is not distributed"):
                await worker.execute(detach, ("readings_2031_01",))


async def test_a_table_that_only_looks_like_a_month_is_not_dropped(database: Database, database_url: str) -> None:
    await database.execute("CREATE TABLE readings_2031_01 ()")
    await refused(url_as(database_url, "worker"), "SELECT drop_readings_month('readings_2031_01')")


async def test_names_of_the_callers_own_do_not_mislead_the_function(database: Database, database_url: str) -> None:
    """The function runs with more privileges, so names in it must not resolve to objects of the caller."""
    async with await connect(url_as(database_url, "ingestor"), "test") as caller:
        for name in ("readings", "pg_class", "pg_inherits", "readings_2031_01"):
            await caller.execute(f"CREATE TEMPORARY TABLE {name} (mine integer)".encode())
        await caller.execute("CREATE FUNCTION pg_temp.caught() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN "
                             "RAISE 'ran as %', current_user; END $$")  # fmt: skip
        await caller.execute("CREATE FUNCTION pg_temp.to_regclass(text) RETURNS regclass LANGUAGE sql AS "
                             "'SELECT CASE WHEN pg_temp.caught() THEN NULL END::regclass'")  # fmt: skip
        await caller.execute("SET search_path = pg_temp, pg_catalog, public")
        row = await (await caller.execute("SELECT public.ensure_readings_partition('2031-01-15')")).fetchone()
        assert row == (True,)
    found = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'public.readings'::regclass"
    assert ("readings_2031_01",) in await (await database.execute(found)).fetchall()


@pytest.mark.plain_only("only the nodes have statistics of distributed tables")
async def test_the_api_sees_the_statistics_of_a_new_month(database: Database, database_url: str) -> None:
    async with await connect(url_as(database_url, "ingestor"), "test") as ingestor:
        await ingestor.execute(MAKE)
    await database.execute(
        "INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)"
        " SELECT 1, '2031-01-15'::timestamptz + n * interval '1 s', now(), 1, 2, 3 FROM generate_series(1, 100) n"
    )
    await database.execute("ANALYZE readings_2031_01")
    seen = "SELECT most_common_freqs FROM pg_stats WHERE tablename = 'readings_2031_01' AND attname = 'device_id'"
    async with await connect(url_as(database_url, "api"), "test") as api:
        assert await (await api.execute(seen)).fetchall() == [([1.0],)]


# Setting up


async def test_what_was_given_or_taken_since_is_mended_by_the_next_migration(
    database: Database, database_url: str
) -> None:
    await database.execute("REVOKE SELECT ON devices FROM devicestat_api")
    await database.execute(
        "GRANT UPDATE, DELETE ON audit_log TO devicestat_worker; GRANT CREATE ON SCHEMA public TO PUBLIC"
    )
    await database.execute("GRANT SELECT (payload) ON dead_letters TO devicestat_worker")
    assert await migrate(database) == []
    await test_each_role_may_do_with_each_table_what_was_decided(database)
    await refused(url_as(database_url, "worker"), *MAKING, "SELECT payload FROM dead_letters")


async def test_a_database_without_roles_stays_so(postgres_server: str, empty_database_url: str) -> None:
    async with await connect(empty_database_url, "test") as database:
        await migrate(database)
        assert await migrate(database) == []
        owner = await (await database.execute("SELECT relowner::regrole = current_user::regrole FROM pg_class "
                                              "WHERE oid = 'readings'::regclass")).fetchone()  # fmt: skip
    assert owner == (True,)
    await refused(url_as(empty_database_url, "api"), "SELECT FROM devices", MAKE)


async def test_it_may_be_done_at_once_and_with_data(database: Database, database_url: str) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")

    async def again() -> None:
        async with await connect(database_url, "test") as connection:
            await set_up(connection)

    await asyncio.gather(*(again() for _ in range(4)))
    await test_each_role_may_do_with_each_table_what_was_decided(database)


@pytest.mark.parametrize(
    ("service", "seen"), [("ingestor", "ok       dead letters    none"), ("api", "permission denied")]
)
def test_the_doctor_says_what_a_role_may_not_look_at(
    service: str, seen: str, database_url: str, broker: Broker
) -> None:
    url = url_as(database_url, service)
    result = run("doctor", database_url=url, mqtt_url=broker.url, ingestor_metrics_port=0)
    assert "ok       schema" in result.stdout
    assert "ok       partitions" in result.stdout
    assert seen in result.stdout
    assert "wrong    dead letters" not in result.stdout
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"ingestor": "a", "worker": "c"}, "api, which should contain a role's password, cannot be read: No such file"),
        ({"ingestor": "a", "api": " \n", "worker": "c"}, "api must contain a role's password"),
        ({"ingestor": "a", "api": "b\nb", "worker": "c"}, "api must contain a role's password"),
    ],
)
def test_a_password_that_cannot_be_read_is_named(
    files: Mapping[str, str], said: str, tmp_path: Path, empty_database_url: str
) -> None:
    write(tmp_path, files)
    result = run("migrate", "--roles", "--passwords", tmp_path, database_url=empty_database_url)
    assert (result.returncode, result.stdout) == (1, "")
    assert said in result.stderr


def test_passwords_go_with_roles(tmp_path: Path) -> None:
    result = run("migrate", "--passwords", tmp_path, database_url="postgresql:///x")
    assert result.returncode == 2
    assert "--passwords goes with --roles" in result.stderr


def write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (directory / name).write_text(text)


# On a separate server without the roles, which requires passwords of all users but its superuser.


@pytest.fixture
def owners(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server with two databases of an owner without superuser rights; the second has its tables in another schema."""
    logging = {"logging_collector": "on", "log_statement": "all", "log_directory": "log", "fsync": "off"}
    with EmbeddedPostgres(tmp_path / "pg", logging) as server:
        (server.data / "pg_hba.conf").write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        with psycopg.connect(server.url, autocommit=True) as superuser:
            superuser.execute("SELECT pg_reload_conf()")
            superuser.execute("CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'owner'")
            for name in ("first", "second"):
                superuser.execute(f"CREATE DATABASE {name} OWNER owner".encode())
        yield server


def url_of(server: EmbeddedPostgres, user: str, password: str, database: str) -> str:
    parts = urlsplit(server.url_of(database))
    where = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{where}"))


def can_connect(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
        connection.execute("SELECT FROM devices")
        return True
    return False


async def test_an_owner_who_is_no_superuser_makes_roles_with_passwords(
    owners: EmbeddedPostgres, tmp_path: Path
) -> None:
    first, second = (url_of(owners, "owner", "owner", name) for name in ("first", "second"))
    with psycopg.connect(second) as connection:
        connection.execute("CREATE SCHEMA owner")
    old = {service: f"{service}-old-pässwörd" for service in SERVICES}
    write(tmp_path, old)
    made = [run("migrate", "--roles", "--passwords", tmp_path, database_url=url) for url in (first, second, first)]
    assert [result.returncode for result in made] == [0, 0, 0], made
    assert (
        "the roles devicestat_ingestor, devicestat_api, devicestat_worker have the privileges that they need"
        in made[0].stdout
    )

    def all_connect(passwords: Mapping[str, str]) -> set[bool]:
        return {
            can_connect(url_of(owners, role, passwords[service], database))
            for service, role in SERVICES.items()
            for database in ("first", "second")
        }

    assert all_connect(old) == {True}
    new = {service: f"{service}-new" for service in SERVICES}
    write(tmp_path, new)
    assert run("migrate", "--roles", "--passwords", tmp_path, database_url=first).returncode == 0
    assert run("migrate", "--roles", database_url=second).returncode == 0  # changes nothing
    assert (all_connect(old), all_connect(new)) == ({False}, {True})
    await check_what_the_server_keeps(owners, [*old.values(), *new.values()])

    async with await connect(first, "test") as owner:  # like a later migration
        await owner.execute("ALTER TABLE readings ADD COLUMN later integer")
        await owner.execute(
            "INSERT INTO readings (device_id, recorded_at, received_at, x, y, z) VALUES (1, now(), now(), 1, 2, 3)"
        )
        await owner.execute(
            "CREATE OR REPLACE FUNCTION drop_readings_month(month text) RETURNS void LANGUAGE sql AS ''"
        )


async def check_what_the_server_keeps(server: EmbeddedPostgres, passwords: list[str]) -> None:
    async with await connect(server.url, "test") as superuser:
        kept = "SELECT rolname, left(rolpassword, 14) FROM pg_authid WHERE rolname = ANY (%s)"
        rows = await (await superuser.execute(kept, (list(SERVICES.values()),))).fetchall()
    assert dict(rows) == dict.fromkeys(SERVICES.values(), "SCRAM-SHA-256$")
    logged = "".join(file.read_text() for file in (server.data / "log").iterdir())
    assert 'ALTER ROLE "devicestat_api" PASSWORD' in logged
    assert [password for password in passwords if password in logged] == []


async def test_a_role_that_may_too_much_is_not_taken(owners: EmbeddedPostgres) -> None:
    async with await connect(owners.url_of("first"), "test") as superuser:
        await migrate(superuser)
        await superuser.execute("CREATE ROLE devicestat_api LOGIN SUPERUSER")
        with pytest.raises(DatabaseError, match="devicestat_api is a superuser"):
            await set_up(superuser)
        made = await (await superuser.execute("SELECT to_regrole('devicestat_worker')")).fetchone()
    assert made == (None,)


async def test_two_databases_may_make_the_roles_at_once(owners: EmbeddedPostgres) -> None:
    async def make(name: str) -> None:
        async with await connect(owners.url_of(name), "test") as superuser:
            await migrate(superuser)
            await set_up(superuser, dict.fromkeys(SERVICES.values(), name))

    await asyncio.gather(make("first"), make("second"))
    async with await connect(owners.url_of("second"), "test") as superuser:
        await test_each_role_may_do_with_each_table_what_was_decided(superuser)
