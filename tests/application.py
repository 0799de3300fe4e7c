"""The API's application without a server or a database, for tests of its routes and its OpenAPI document."""

import msgspec
from litestar import Litestar
from prometheus_client import CollectorRegistry

from query_api.serve.app import create_app
from query_api.web.gate import Gate
from shared.serving.telemetry import Health
from shared.settings import Settings

_GIVEN = (
    "database",
    "slow_reads",
    "exports",
    "intake",
    "notifications",
    "live",
    "waits",
    "callback_rules",
    "quotas",
    "tokens",
    "device_keys",
    "mqtt",
    "analysed",
    "decoder",
    "keyring",
    "sign_ins",
    "picture",
)


def application(**given: str) -> Litestar:
    """Return the application as `serve` wires it, with None for the dependencies of handlers. `given`: settings."""
    settings = msgspec.structs.replace(Settings(database_url="postgresql://unused.test/none"), **given)
    return create_app(settings, dict.fromkeys(_GIVEN), Gate(None, None), Health("database"), CollectorRegistry())
