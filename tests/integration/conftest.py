"""What the tests of the query API and the worker share."""

from collections.abc import AsyncIterator

import httpx
import pytest

from query_api.serve.tuning import DEFAULT, Tuning
from shared.settings import Settings
from tests import services
from tests.ports import free_port


@pytest.fixture
def api_settings(database_url: str) -> Settings:
    """Settings for the API and the worker: no broker, ports of their own."""
    return Settings(database_url=database_url, http_port=free_port(), worker_metrics_port=0)


@pytest.fixture
def tuning(request: pytest.FixtureRequest) -> Tuning:
    """Tuning of the API, as the marker `serve` gives it: `@pytest.mark.serve(Tuning(…))`."""
    marker = request.node.get_closest_marker("serve")
    return marker.args[0] if marker else DEFAULT


@pytest.fixture
async def api(api_settings: Settings, tuning: Tuning) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running API on the test's database."""
    async with services.api(api_settings, tuning) as client:
        yield client


@pytest.fixture
async def device(api: httpx.AsyncClient) -> int:
    """The id of a registered device."""
    answer = await api.post("/devices", json={"name": "Boiler, north"})
    assert answer.status_code == 201
    number: int = answer.json()["id"]
    return number
