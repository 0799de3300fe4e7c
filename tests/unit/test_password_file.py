"""The lines of the broker's password file."""

import subprocess
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.access.credentials import digest
from shared.broker.device_credentials import DeviceCredential
from shared.broker.names import KeyRules
from shared.broker.password_file import TAKEN, PasswordFile, change, compare, parse, render, users_among

SECRET = "the secret of the tests, which is long enough"
RULES = KeyRules(True, "ingestor", "the-ingestor")
OTHER = "other:$7$101$c2FsdHNhbHQ=$aGFzaA=="


def device(number: int, token: str, key: str | None = None) -> DeviceCredential:
    return DeviceCredential(number, key or f"key-{number}", digest(token), token)


@given(st.lists(st.dictionaries(st.integers(1, 6), st.sampled_from("abc")), max_size=6))
def test_the_file_follows_the_devices(states: list[dict[int, str]]) -> None:
    text = f"{OTHER}\n"
    for state in states:
        devices = {number: device(number, token) for number, token in state.items()}
        done = change(parse(text), range(1, 7), devices, RULES)
        assert set(done.changed) == set(compare(parse(text), devices, RULES).differing)
        text = render(done.file, SECRET)
        assert parse(text) == done.file
        assert set(done.file.devices) == set(devices)
        assert done.file.users == {"other"}
        assert change(parse(text), range(1, 7), devices, RULES).changed == ()


def test_a_token_that_cannot_be_made_again_takes_the_former_ones_line_away() -> None:
    file = change(PasswordFile({}), [1], {1: device(1, "old")}, RULES).file
    done = change(file, [1], {1: DeviceCredential(1, "key-1", digest("new"), None)}, RULES)
    assert (done.file.devices, done.lost, done.changed) == ({}, (1,), (1,))


def test_the_witness_changes_with_each_line() -> None:
    files = [
        PasswordFile({}),
        PasswordFile({}, ("a:b",)),
        change(PasswordFile({}), [1], {1: device(1, "x")}, RULES).file,
    ]
    assert len({render(file, SECRET).splitlines()[-1] for file in files}) == 3


def test_mosquitto_passwd_knows_the_form(tmp_path: Path) -> None:
    tool = which("mosquitto_passwd")
    if tool is None:
        pytest.skip("needs mosquitto_passwd, which the package mosquitto has")
    file = tmp_path / "passwd"
    file.write_text(render(change(PasswordFile({}), [1], {1: device(1, "x")}, RULES).file, SECRET))
    file.chmod(0o600)
    subprocess.run([tool, "-D", str(file), "key-1"], check=True, capture_output=True)
    assert parse(file.read_text()).devices == {}


@pytest.mark.parametrize(
    "key",
    [
        "ingestor", "the-ingestor", "the-ingestor.process-2", "other", "spaced", "a:b", "devicestat-probe",
        "devicestat-witness", "devicestat-doctor-1",
    ],
)  # fmt: skip
def test_a_name_of_somebody_else_gets_no_line_and_loses_the_one_it_has(key: str) -> None:
    others = (OTHER, f" spaced {OTHER.removeprefix('other')}")
    devices = {1: device(1, "x", key), 2: device(2, "y")}
    files = [PasswordFile({}, others), change(PasswordFile({}), [1], devices, KeyRules()).file]
    for file in (files[0], PasswordFile(files[1].devices, others)):
        compared = compare(file, devices, RULES)
        assert [(one.device_id, one.key) for one in compared.unfit] == [(1, key)]
        done = change(file, [1, 2], devices, RULES)
        assert done.unfit == compared.unfit
        assert set(done.changed) == set(compared.differing)
        assert list(done.file.devices) == [2]
        assert done.file.others == others


def test_names_of_users_are_distinguished_from_those_of_devices() -> None:
    devices = {number: device(number, "x") for number in (1, 2)}
    text = render(change(parse(f"{OTHER}\n"), [1, 2], devices, RULES).file, SECRET)
    assert users_among(text, {"other", "key-1", "absent", "devicestat-witness"}) == {"other", "devicestat-witness"}
    assert {TAKEN} == {one.reason for one in compare(parse(text), {3: device(3, "z", "other")}, RULES).unfit}


def test_other_keys_may_be_had() -> None:
    for key in ("7", "ingestor2", "the-ingestor.2", "devicestat", "$SYS", "%u", "e\u0301", "\u00e9", "k" * 128):
        assert RULES.fault(key) is None


def test_on_brokers_with_device_ids_only_the_probes_key_is_reserved() -> None:
    assert KeyRules().fault("devicestat-probe") is not None
    for key in ("a:b", "devicestat-ingestor", "ingestor"):
        assert KeyRules().fault(key) is None
