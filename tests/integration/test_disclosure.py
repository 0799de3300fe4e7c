"""A test run with a secret in any of its output fails, and reports the place."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import environment

_CONFTEST = """
from tests.disclosure import Disclosure

def pytest_configure(config):
    config.pluginmanager.register(Disclosure(config))
"""
_LEAKS = """
import logging, subprocess, sys, time
import httpx, structlog
from shared.access.credentials import new_key, new_token
from shared.settings import Settings
from tests.command import environment
from tests.disclosure import gather, gather_answer

def test_a_key_is_printed():
    print("made", new_key().text)

def test_the_random_part_of_a_token_is_logged():
    logging.getLogger("a.library").warning("x%sx", new_token(7, None).text[-43:])

def test_a_password_is_logged_by_a_service_in_this_process():
    settings = Settings(database_url="postgresql://u:" + "a-password-" * 2 + "@h/d")
    structlog.get_logger().info("connecting", url=settings.database_url)

def test_a_setting_is_written_by_a_process():
    variables = environment(device_secret="a device's secret " * 2)
    program = "import os, sys; print(repr(os.environ['DEVICESTAT_DEVICE_SECRET']), file=sys.stderr)"
    subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True)

def test_a_key_that_another_process_has_made_is_in_its_log():
    gather("a log", b"dsk_abcdefgh_" + b"A" * 43)

async def test_a_token_is_in_the_figures_of_a_service():
    figures = f'requests{{key="{new_token(8, None).text}"}} 1'
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, text=figures)), base_url="http://test",
        event_hooks={"response": [gather_answer]},
    ) as client:
        await client.get("/metrics")
"""
_NO_LEAK = """
from shared.access.credentials import new_key
from tests.disclosure import gather_shown

def test_a_prefix_is_printed_and_a_key_shown_to_who_asked_for_it():
    print(new_key().prefix)
    gather_shown("devicestat keys create", new_key().text)
"""
_WHERE = (
    "a key or a token in test_run.py::test_a_key_is_printed: Captured stdout call, after 'made '",
    "a key or a token in test_run.py::test_the_random_part_of_a_token_is_logged: Captured log call",
    "DEVICESTAT_DATABASE_URL in test_run.py::test_a_password_is_logged_by_a_service_in_this_process: Captured stdout",
    "DEVICESTAT_DEVICE_SECRET in standard error of ",
    "a key or a token in a log",
    "a key or a token in the answer to GET /metrics",
)


def run_of(directory: Path, tests: str, workers: int) -> "subprocess.CompletedProcess[str]":
    """Run pytest on these tests."""
    (directory / "conftest.py").write_text(_CONFTEST)
    (directory / "test_run.py").write_text(tests)
    (directory / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    plugins = [f"-p{name}" for name in ("xdist.plugin", "pytest_asyncio.plugin", "no:cacheprovider")]
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), *plugins, str(directory)]
    only_these = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # other plugins take seconds to import
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment() | only_these)


@pytest.mark.parametrize("workers", [0, 1])
def test_each_leak_is_found_and_fails_the_run(tmp_path: Path, workers: int) -> None:
    ran = run_of(tmp_path, _LEAKS, workers)
    assert "6 passed" in ran.stdout
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    for place in _WHERE:
        assert place in ran.stdout


def test_what_is_meant_to_be_seen_is_no_leak(tmp_path: Path) -> None:
    ran = run_of(tmp_path, _NO_LEAK, 0)
    assert ran.returncode == pytest.ExitCode.OK, ran.stdout
    assert "output for 2 secrets: none found" in ran.stdout
