"""The fixtures of the API, and a browser."""

from tests.integration.conftest import api, api_settings, device, tuning

__all__ = ["api", "api_settings", "device", "tuning"]
