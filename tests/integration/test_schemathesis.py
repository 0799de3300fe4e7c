"""schemathesis holds the running service against its own document: every operation, all of its checks.

It sends what the document allows and what it forbids, and follows the document from one operation to the next
(its stateful phase). The short form sends the same every time; the long one (`make soak`) something else each time.
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx
import msgspec
import pytest

from shared.access.credentials import Role
from shared.postgres.connections import Connection
from shared.settings import Settings
from tests import services
from tests.credentials import bearer, key

READINGS = 20
DEVICES = 3
WORKERS = 1
"""Hypothesis parses the source of lambdas, which CPython up to 3.11.7 must not do in two threads at once
(python/cpython issue 106905: "SystemError: AST constructor recursion depth mismatch")."""
ROOT = Path(__file__).parents[2]
CONFIGURATION = """
headers = { Authorization = "Bearer ${ADMIN_KEY}" }

[checks]
positive_data_acceptance.expected-statuses = ["2xx", "304", "400", "404", "409", "422"]

[[operations]]
include-path = "/session"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "422", "429"]
"""
"""tests/refusals.py holds 400 and 422 to reasons that no schema can have. A made-up key does not sign in."""
EXCLUDED = r"/live$|/rotate$"
"""/live: server-sent events, for as long as the client listens; schemathesis waits for an answer's end. /rotate: it
would end the key that schemathesis itself uses. tests/integration/test_live.py and test_keys_over_http.py hold them."""


FIRST_S = 1_769_860_800
"""2026-01-31T12:00:00Z."""


async def fill(api: httpx.AsyncClient) -> None:
    """Devices with readings, and an analysis, for what is asked to be there."""
    for number in range(DEVICES):
        device = (await api.post("/devices", json={"name": f"Boiler {number}"})).json()["id"]
        readings = [
            {"device_id": device, "x": n, "y": -n, "z": 0.5, "timestamp": FIRST_S + 60 * n} for n in range(READINGS)
        ]
        assert (await api.post("/stats", json=readings)).status_code == 201
        assert (await api.post(f"/stats/analysis/{device}/async")).status_code == 202


async def schemathesis(api: httpx.AsyncClient, admin: str, folder: Path, *options: object) -> tuple[int | None, str]:
    """How it ended, and what it said."""
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{api.base_url}/openapi.json"),
        *("--checks", "all", "--mode", "all", "--exclude-path-regex", EXCLUDED, "--workers", str(WORKERS)),
        *("--continue-on-failure", "--no-color", "--generation-database", "none", *map(str, options)),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.refusals", "ADMIN_KEY": admin},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--max-examples", 4, "--seed", 1), id="short"),
        pytest.param(("--max-examples", 300), id="long", marks=pytest.mark.soak),
    ],
)
async def test_it_finds_nothing(
    options: tuple[object, ...], api_settings: Settings, database: Connection, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(api_settings, auth="on")
    admin = await key(database, Role.ADMIN)
    async with services.api(settings) as api, services.worker(settings):
        api.headers.update(bearer(admin))
        await fill(api)
        code, said = await schemathesis(api, admin, tmp_path, *options)
    assert code == 0, said
    assert "Stateful" in said
    assert "Fuzzing" in said
