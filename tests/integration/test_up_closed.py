"""`devicestat up` with AUTH on: its panel's commands create a key, and use it."""

import shlex
import tempfile
from pathlib import Path

import httpx

from shared.access.credentials import new_key, read
from tests.command import Up, arun, run, running_up
from tests.credentials import bearer


async def test_a_user_creates_a_key_and_gets_access() -> None:
    of_another_database = new_key().text  # set in the user's shell: it has no effect here
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        async with running_up(Up(Path(directory), auth="on", api_key=of_another_database)) as up:
            export = next(line for line in up.lines if "DEVICESTAT_DATABASE_URL" in line).split("export", 1)[1]
            urls = dict(word.removeprefix("DEVICESTAT_").split("=", 1) for word in shlex.split(export))
            assert any("devicestat keys create --role admin" in line for line in up.lines)
            assert any('Authorization: Bearer $DEVICESTAT_API_KEY"' in line for line in up.lines)
            async with up.api as api:
                assert (await api.get("/devices")).status_code == httpx.codes.UNAUTHORIZED
                made = await arun("keys", "create", "--role", "admin", database_url=urls["DATABASE_URL"])
                key = made.stdout.strip()
                assert read(key) is not None
                assert (await api.get("/devices", headers=bearer(key))).json() == []
            where = {"mqtt_url": urls["MQTT_URL"], "http_port": up.http_port}
            refused = await arun("simulate", "--devices", 1, "--count", 0, **where)
            assert refused.returncode == 1
            assert "set DEVICESTAT_API_KEY to an admin key" in refused.stderr
            simulated = await arun("simulate", "--devices", 1, "--count", 5, api_key=key, **where)
            assert simulated.returncode == 0, simulated.stderr
            assert not any(shown in line for line in up.lines for shown in (key, of_another_database))
            assert await up.stop() == 0


def test_what_it_cannot_do_is_reported_before_anything_is_started(tmp_path: Path) -> None:
    demo = run("up", "--demo", "--data-dir", tmp_path / "demo", auth="on")
    assert demo.returncode == 1
    assert "set DEVICESTAT_API_KEY" in demo.stderr
    opened = run("up", "--data-dir", tmp_path / "open", http_host="0.0.0.0")
    assert opened.returncode == 1
    assert "--insecure" in opened.stderr
    assert list(tmp_path.iterdir()) == []
