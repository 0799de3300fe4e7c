"""Headless Chromium with a user's defaults, without connections to other machines."""

import shutil
from pathlib import Path

import pytest

_PROGRAM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("chromium-browser")
"""The shell has no window, tabs or extensions of its own, and takes a ninth of the time of the processor."""
needs_chromium = pytest.mark.skipif(_PROGRAM is None, reason="needs a browser: apt-get install chromium-headless-shell")
REBOUND_HOST = "rebound.test"
"""A name that its owner has made to lead to this machine."""
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def command(profile: Path) -> list[str]:
    """Return the command that runs the browser with this profile. It reads commands from descriptor 3, and ends with
    it; it writes to descriptor 4.
    """
    assert _PROGRAM is not None, "tests that call this are marked needs_chromium"
    return [
        _PROGRAM, *_QUIET, f"--user-data-dir={profile}", f"--host-resolver-rules=MAP {REBOUND_HOST} 127.0.0.1",
        "--remote-debugging-pipe", "--force-color-profile=srgb", "--hide-scrollbars",
    ]  # fmt: skip
