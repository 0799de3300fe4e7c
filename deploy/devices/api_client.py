"""Client of the API for the commands."""

from collections.abc import Iterator, Mapping, Sequence

import httpx
import msgspec

from shared.errors import LocalError

TIMEOUT_S = 10.0
PAGE = 1000
_NOT_LET_IN = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class NotCarriedOut(LocalError):
    """The API has not received the request, or has refused it. Nothing was changed."""


class ApiDevice(msgspec.Struct, frozen=True):
    """A registered device: its id, and its key, which is a level of its topic."""

    id: int
    key: str


class DeviceWithToken(ApiDevice, frozen=True):
    """A newly registered device with its credentials."""

    mqtt_username: str
    token: str

    def __repr__(self) -> str:
        return f"RegisteredDevice({self.id})"


class _Count(msgspec.Struct, frozen=True):
    count: int


class _Analysis(msgspec.Struct, frozen=True):
    x: _Count


class ApiClient:
    """Client of the API at a base URL. Raises LocalError if there is no response, or an error."""

    def __init__(self, base: str, key: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        """`key`: an API key."""
        self.base = _plain(base)
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        # trust_env=False: no proxy between programs of one machine. No keep-alive: a service that stops would wait for
        # the connection.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(
            base_url=self.base, headers=headers, timeout=timeout_s, trust_env=False, limits=limits
        )

    def is_ready(self) -> bool:
        """Return whether /health/ready reports readiness; False while nothing answers.

        An API that requires a key counts as ready: it does not report its readiness without one.
        """
        try:
            return self._http.get("/health/ready").status_code in (httpx.codes.OK, *_NOT_LET_IN)
        except httpx.HTTPError:
            return False

    def devices(self, search: str = "") -> Iterator[ApiDevice]:
        """Return the devices whose name or key contains the text, oldest first."""
        path: str | None = f"/devices?{httpx.QueryParams(search=search, limit=PAGE)}"
        while path is not None:
            response = self._ask("GET", path)
            yield from msgspec.json.decode(response.content, type=list[ApiDevice])
            path = response.links.get("next", {}).get("url")

    def register(self, key: str, name: str) -> ApiDevice:
        """Register a device."""
        response = self._ask("POST", "/devices", {"key": key, "name": name})
        return msgspec.json.decode(response.content, type=ApiDevice)

    def register_all(self, devices: Sequence[Mapping[str, str]]) -> list[DeviceWithToken]:
        """Register the devices, each with a key and a name; return those whose keys were new."""
        response = self._ask("POST", "/devices?existing=skip", list(devices))
        return msgspec.json.decode(response.content, type=list[DeviceWithToken])

    def count(self, device_id: int) -> int:
        """Return the number of the device's readings."""
        response = self._ask("GET", f"/stats/analysis/{device_id}")
        return msgspec.json.decode(response.content, type=_Analysis).x.count

    def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            kind = NotCarriedOut if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else LocalError
            raise kind(
                f"the API at {self.base} does not respond ({error}): is `devicestat serve` running there?"
            ) from error
        if response.status_code in _NOT_LET_IN:
            raise NotCarriedOut(
                f"the API at {self.base} does not allow {method} {path}: set DEVICESTAT_API_KEY to an admin key, "
                "for example of `devicestat keys create --role admin`"
            )
        if not response.is_success:
            kind = NotCarriedOut if response.is_client_error else LocalError
            raise kind(f"the API at {self.base} refused {method} {path} ({response.status_code}): {response.text}")
        return response

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _plain(base: str) -> str:
    """Return the URL without a trailing slash. Raises LocalError, also for a password, which errors would show."""
    try:
        url = httpx.URL(base)
    except httpx.InvalidURL as error:
        raise LocalError(f"this is not the URL of an API ({error}): expected http://127.0.0.1:8000") from None
    if url.userinfo:
        raise LocalError("the URL of an API has no user and password: set DEVICESTAT_API_KEY instead")
    if url.scheme not in ("http", "https") or not url.host:
        raise LocalError(f"{base} is not the URL of an API: expected http://127.0.0.1:8000")
    return base.rstrip("/")


def base_url(host: str, port: int) -> str:
    """Return the URL of a service on this machine that listens on the host."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
