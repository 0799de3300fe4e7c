"""What our own commands ask of the API, as any client would."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx
import msgspec

from shared.errors import LocalError

TIMEOUT_S = 10.0
PAGE = 1000
_NOT_LET_IN = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class NotCarriedOut(LocalError):
    """A request that the API has not received, or has refused: it changed nothing."""


class ApiDevice(msgspec.Struct, frozen=True):
    """A registered device: its number, and its level in the topic."""

    id: int
    key: str


class DeviceWithToken(ApiDevice, frozen=True):
    """A device that was just registered, with what it shows to the broker or the API."""

    mqtt_username: str
    token: str

    def __repr__(self) -> str:
        return f"RegisteredDevice({self.id})"


class _Count(msgspec.Struct, frozen=True):
    count: int


class _Analysis(msgspec.Struct, frozen=True):
    x: _Count


class ApiClient:
    """The API at a base URL. What it does not answer, or answers with an error, raises LocalError."""

    def __init__(self, base: str, key: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        """`key`: API_KEY, which is shown to the API."""
        self.base = _plain(base)
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        # No proxy of the environment between programs of one machine; no connection left open between requests,
        # which a service that stops would have to wait for.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(
            base_url=self.base, headers=headers, timeout=timeout_s, trust_env=False, limits=limits
        )

    def is_ready(self) -> bool:
        """Whether /health/ready says so; False as long as nobody answers.

        What asks for a key has been started: more it does not say to who has none.
        """
        try:
            return self._http.get("/health/ready").status_code in (httpx.codes.OK, *_NOT_LET_IN)
        except httpx.HTTPError:
            return False

    def devices(self, search: str = "") -> Iterator[ApiDevice]:
        """The devices with that in their name or key, the oldest first."""
        path: str | None = f"/devices?{httpx.QueryParams(search=search, limit=PAGE)}"
        while path is not None:
            response = self._ask("GET", path)
            yield from msgspec.json.decode(response.content, type=list[ApiDevice])
            path = response.links.get("next", {}).get("url")

    def register(self, key: str, name: str) -> ApiDevice:
        """Registers a device."""
        response = self._ask("POST", "/devices", {"key": key, "name": name})
        return msgspec.json.decode(response.content, type=ApiDevice)

    def register_all(self, devices: Sequence[Mapping[str, str]]) -> list[DeviceWithToken]:
        """Register the devices, each with a key and a name; return those whose keys were not taken."""
        response = self._ask("POST", "/devices?existing=skip", list(devices))
        return msgspec.json.decode(response.content, type=list[DeviceWithToken])

    def count(self, device_id: int) -> int:
        """How many readings of the device there are."""
        response = self._ask("GET", f"/stats/analysis/{device_id}")
        return msgspec.json.decode(response.content, type=_Analysis).x.count

    def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            kind = NotCarriedOut if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else LocalError
            raise kind(
                f"the API at {self.base} does not answer ({error}): is `devicestat serve` running there?"
            ) from error
        if response.status_code in _NOT_LET_IN:
            raise NotCarriedOut(
                f"the API at {self.base} does not let {method} {path} in: set DEVICESTAT_API_KEY to an admin key, "
                "such as `devicestat keys create --role admin` makes"
            )
        if not response.is_success:
            kind = NotCarriedOut if response.is_client_error else LocalError
            raise kind(f"the API at {self.base} refused {method} {path} ({response.status_code}): {response.text}")
        return response

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _plain(base: str) -> str:
    """The URL without what ends it. Raises LocalError; a password in it would be shown with the next error."""
    try:
        url = httpx.URL(base)
    except httpx.InvalidURL as error:
        raise LocalError(f"this is no URL of an API ({error}): it is such as http://127.0.0.1:8000") from None
    if url.userinfo:
        raise LocalError("the URL of an API has no user and password: set DEVICESTAT_API_KEY instead")
    if url.scheme not in ("http", "https") or not url.host:
        raise LocalError(f"{base} is no URL of an API: it is such as http://127.0.0.1:8000")
    return base.rstrip("/")


def base_url(host: str, port: int) -> str:
    """Where a service of this machine that listens on the host is reached."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
