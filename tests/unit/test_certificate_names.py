"""NAMES is validated like a setting: each fault has its name and the accepted form."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.containers.certificate_names import EXPECTED, alternatives
from shared.errors import SettingsError


def test_names_and_addresses() -> None:
    assert alternatives("telemetry.example.com, 192.0.2.7,2001:db8::1,localhost,*.example.com,xn--exmple-cua.test") == [
        "DNS:telemetry.example.com",
        "IP:192.0.2.7",
        "IP:2001:db8::1",
        "DNS:localhost",
        "DNS:*.example.com",
        "DNS:xn--exmple-cua.test",
    ]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("10.0.0.300", "not an IPv4 address, which has four numbers from 0 to 255"),
        ("10.0.0", "not an IPv4 address, which has four numbers from 0 to 255"),
        ("not a name", "not a host name, which has letters, digits and hyphens, separated by dots"),
        ("-x.test", "not a host name, which has letters, digits and hyphens, separated by dots"),
        ("a..test", "not a host name, which has letters, digits and hyphens, separated by dots"),
        ("a.*.test", "not a host name, which has letters, digits and hyphens, separated by dots"),
        ("x" * 64, "not a host name, which has letters, digits and hyphens, separated by dots"),
        ("exämple.test", "not in ASCII: write xn--exmple-cua.test"),
        ("https://x.test", "neither an IPv6 address nor a host name, which has no scheme, port or path"),
        ("x.test:8443", "neither an IPv6 address nor a host name, which has no scheme, port or path"),
        (
            "x.test\nIP:1.2.3.4",
            "neither an IPv6 address nor a host name, which has no scheme, port or path",
        ),
        ("fe80::1%eth0", "neither an IPv6 address nor a host name, which has no scheme, port or path"),
    ],
)
def test_what_can_stand_in_no_certificate(name: str, fault: str) -> None:
    with pytest.raises(SettingsError) as raised:
        alternatives(f"localhost,{name}")
    assert raised.value.faults == (f"NAMES is invalid ({name!r}: {fault}): expected {EXPECTED}",)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        alternatives("localhost,,x.test,10.0.0.300")
    assert len(raised.value.faults) == 2
    assert raised.value.faults[0].startswith("NAMES is invalid ('': an empty name: is there an extra comma?)")


def test_the_first_start_says_so_in_one_line_and_makes_nothing(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.containers.first_start", tmp_path / "secrets"],
        env={**os.environ, "NAMES": "10.0.0.300"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("NAMES is invalid ('10.0.0.300'")
    assert len(ran.stderr.splitlines()) == 1
    assert not (tmp_path / "secrets").exists()
