"""Secrets are removed from log lines and tracebacks in any escaped form; the rest is unchanged.

The lines are asserted on where a process wrote them: in this one, the search of all output would find them.
"""

import json
import subprocess
import sys

import pytest

from shared.access.credentials import new_key, new_token
from shared.serving.redaction import MASK, Redactor, secrets_in
from shared.settings import SECRETS, Settings
from tests.command import environment

ODD = "pass\"wörd\\\n'with %all@"
SECRET = "an-uncommon-secret-of-a-test-run"


@pytest.mark.parametrize(
    "written",
    [
        ODD,
        json.dumps(ODD),
        json.dumps(ODD, ensure_ascii=False),
        repr(ODD),
        "pass%22w%C3%B6rd%5C%0A%27with%20%25all%40",
    ],
)
def test_a_secret_is_found_however_it_is_written(written: str) -> None:
    found = Redactor([ODD])(f"before {written} after")
    assert found in (f"before {MASK} after", f"before {written[0]}{MASK}{written[0]} after")


def test_a_key_and_a_token_keep_what_says_whose_they_are() -> None:
    key, token = new_key(), new_token(17, None)
    redact = Redactor([])
    assert redact(f"'{key.text}', {token.text}.") == f"'{key.prefix}_{MASK}', dst_17_{MASK}."
    assert redact(key.text[:25]) == f"{key.prefix}_{MASK}"
    assert redact(key.prefix) == key.prefix


def test_of_two_secrets_the_longer_goes_first() -> None:
    assert Redactor(["secret", "secret-and-more"])("secret-and-more secret") == f"{MASK} {MASK}"


def test_what_is_part_of_too_many_words_stays() -> None:
    assert Redactor(["", "abc"])("the abc of it") == "the abc of it"


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("postgresql://user:p%40ss@host/db", {"p%40ss", "p@ss"}),
        ("postgresql://user@host/db?sslmode=require&password=p%40ss", {"p%40ss", "p@ss"}),
        ("postgresql://user:one@host/db?sslpassword=other&oauth_client_secret=third", {"one", "other", "third"}),
        ("postgresql://user:same@host/db?password=same", {"same"}),
        ("postgresql://user:a?b#c@host/db", {"a?b#c"}),
        ("postgresql://devicestat:devicestat@host/db", set()),
        ("postgresql://user:telemetry@host/telemetry", set()),
        ("postgresql://user@/db?host=/run", set()),
    ],
)
def test_the_secret_of_a_url_is_its_password(url: str, secrets: set[str]) -> None:
    assert set(secrets_in(Settings(database_url=url))) == secrets


def test_every_secret_setting_is_hidden() -> None:
    values = {name: f"mqtt://user:{SECRET}-{name}@host" if "url" in name else f"{SECRET}-{name}" for name in SECRETS}
    assert set(secrets_in(Settings(**values))) == {f"{SECRET}-{name}" for name in SECRETS}  # type: ignore[arg-type]


_FAILS = """
import logging, sys
import structlog
from shared.serving.redaction import redact_tracebacks
from shared.settings import Settings
from shared.serving.telemetry import configure_logging

url = f"postgresql://u:{sys.argv[1]}-2@h/d"
settings = Settings(device_secret=sys.argv[1], database_url=url, log_format=sys.argv[2])
configure_logging(settings)
redact_tracebacks(settings)

def fail(secret):
    raise ValueError(f"refused: {secret}")

try:
    fail(settings.device_secret)
except ValueError:
    structlog.get_logger().exception("said", secret=settings.device_secret, url=settings.database_url)
    logging.getLogger("a.library").exception("heard of %s", settings.device_secret)
structlog.get_logger().info("bound", settings=settings)
fail(settings.device_secret)
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_log_lines_and_tracebacks_of_a_process_have_none(log_format: str) -> None:
    ran = run(_FAILS, log_format)
    assert ran.returncode == 1
    assert SECRET not in ran.stderr
    assert ran.stderr.count("Traceback") == 3
    assert ran.stderr.count(f"refused: {MASK}") == 3
    assert f"postgresql://u:{MASK}@h/d" in ran.stderr
    assert f"heard of {MASK}" in ran.stderr
    assert "bound" in ran.stderr
    if log_format == "json":
        assert json.loads(ran.stderr.splitlines()[0])["secret"] == MASK


_SHOWS_NO_VARIABLES = """
import sys
import structlog
from shared.settings import Settings
from shared.serving.telemetry import configure_logging

configure_logging(Settings(log_format="console"))

def fail(secret):
    raise ValueError("refused")

try:
    fail(sys.argv[1])
except ValueError:
    structlog.get_logger().exception("said")
"""


def test_a_console_traceback_does_not_show_what_variables_hold() -> None:
    ran = run(_SHOWS_NO_VARIABLES, "console")
    assert "ValueError: refused" in ran.stderr
    assert SECRET not in ran.stderr


def run(program: str, log_format: str) -> "subprocess.CompletedProcess[str]":
    """Run the program with the secret as its argument."""
    return subprocess.run(
        [sys.executable, "-c", program, SECRET, log_format],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
