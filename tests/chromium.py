"""Headless Chromium with a user's defaults, without connections to other machines."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(_PROGRAM is None, reason="needs a browser: apt-get install chromium")
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
_TIMEOUT_S = 120


def command(profile: Path, *options: str) -> list[str]:
    """Return the command that runs the browser with this profile."""
    assert _PROGRAM is not None, "tests that call this are marked needs_chromium"
    return [_PROGRAM, *_QUIET, f"--user-data-dir={profile}", *options]


def shown(profile: Path, url: str, *options: str) -> str:
    """Return the page at the address as HTML, after it is loaded."""
    argv = command(profile, *options, "--dump-dom", url)
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    return ran.stdout


@contextmanager
def visiting(profile: Path, url: str) -> Iterator[None]:
    """Open the page in Chromium; its scripts run until the end of the block."""
    process = subprocess.Popen(
        command(profile, "--remote-debugging-port=0", url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(_TIMEOUT_S)
