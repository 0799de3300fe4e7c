"""The lines of the broker's password file."""

import subprocess
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.broker.password_file import PasswordFile, change, differing, parse, render
from shared.broker.present import Device
from shared.credentials import digest

SECRET = "the secret of the tests, which is long enough"


def device(number: int, token: str, key: str | None = None) -> Device:
    return Device(number, key or f"key-{number}", digest(token), token)


@given(st.lists(st.dictionaries(st.integers(1, 6), st.sampled_from("abc")), max_size=6))
def test_the_file_follows_the_devices(states: list[dict[int, str]]) -> None:
    text = "other:$7$101$c2FsdHNhbHQ=$aGFzaA==\n"
    for state in states:
        devices = {number: device(number, token) for number, token in state.items()}
        done = change(parse(text), range(1, 7), devices)
        assert set(done.changed) == set(differing(parse(text), devices))
        text = render(done.file, SECRET)
        assert parse(text) == done.file
        assert set(done.file.devices) == set(devices)
        assert done.file.users == {"other"}
        assert change(parse(text), range(1, 7), devices).changed == ()


def test_a_token_that_cannot_be_made_again_takes_the_former_ones_line_away() -> None:
    file = change(PasswordFile({}), [1], {1: device(1, "old")}).file
    done = change(file, [1], {1: Device(1, "key-1", digest("new"), None)})
    assert (done.file.devices, done.lost, done.changed) == ({}, (1,), (1,))


def test_the_witness_changes_with_each_line() -> None:
    files = [PasswordFile({}), PasswordFile({}, ("a:b",)), change(PasswordFile({}), [1], {1: device(1, "x")}).file]
    assert len({render(file, SECRET).splitlines()[-1] for file in files}) == 3


def test_mosquitto_passwd_knows_the_form(tmp_path: Path) -> None:
    tool = which("mosquitto_passwd")
    if tool is None:
        pytest.skip("needs mosquitto_passwd, which the package mosquitto has")
    file = tmp_path / "passwd"
    file.write_text(render(change(PasswordFile({}), [1], {1: device(1, "x")}).file, SECRET))
    file.chmod(0o600)
    subprocess.run([tool, "-D", str(file), "key-1"], check=True, capture_output=True)
    assert parse(file.read_text()).devices == {}
