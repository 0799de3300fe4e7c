"""Undocumented members of libraries that the code uses. Each such library has an upper bound."""

import inspect
import tomllib
from pathlib import Path

import aiomqtt
import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

ROOT = Path(__file__).parents[2]

MEMBERS = {
    # shared/serving/limits.py
    HttpToolsProtocol: {
        "client", "connection_made", "connections", "cycle", "data_received", "flow", "loop", "on_headers_complete",
        "on_message_begin", "on_message_complete", "pipeline", "resume_writing", "send_400_response", "server_state",
        "timeout_keep_alive_task", "transport", "_unsupported_upgrade_warning",
    },
    RequestResponseCycle: {"disconnected", "keep_alive", "message_event", "response_complete", "response_started"},
    FlowControl: {"pause_reading", "write_paused"},
    ServerState: {"connections", "default_headers"},
    # shared/serving/service.py
    uvicorn.Server: {"capture_signals", "server_state", "should_exit"},
    # shared/broker/client.py
    aiomqtt.Client: {"pending_calls_threshold", "_on_publish"},
}  # fmt: skip
"""Used members, by class."""


@pytest.mark.parametrize("owner", MEMBERS, ids=lambda owner: owner.__qualname__)
def test_the_class_has_the_members_that_the_code_uses(owner: type) -> None:
    begin = inspect.getsource(owner.__init__)
    missing = [name for name in sorted(MEMBERS[owner]) if not hasattr(owner, name) and f"self.{name}" not in begin]
    assert missing == []


@pytest.mark.parametrize("library", ["aiomqtt", "uvicorn"])
def test_the_library_has_an_upper_bound(library: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (requirement,) = [one for one in project["dependencies"] if one.startswith(library)]
    assert ",<" in requirement
