"""Authentication requests of brokers, as built by their sources: EMQX 5.8, rmqtt 0.24, mosquitto-go-auth 3.0."""

import base64
import json
from urllib.parse import urlencode

import httpx
import msgspec

SECRET = "0123456789abcdef0123456789abcdef"


class Asker(msgspec.Struct, frozen=True):
    """A broker that sends requests with the HTTP client and the secret."""

    client: httpx.AsyncClient
    secret: str = SECRET

    async def emqx_authenticate(
        self, username: str | None, password: str | None, client_id: str, query: str = ""
    ) -> httpx.Response:
        """emqx_authn_http.erl, method post: JSON by emqx_utils_json; values that the client did not send are empty."""
        body = {"clientid": client_id, "password": password or "", "peerhost": "127.0.0.1", "username": username or ""}
        return await self._emqx(f"/mqtt/authenticate{query}", body)

    async def emqx_authorize(self, username: str, client_id: str, action: str, topic: str) -> httpx.Response:
        """emqx_authz_http.erl, method post."""
        body = {"action": action, "clientid": client_id, "topic": topic, "username": username}
        return await self._emqx("/mqtt/authorize", body)

    async def _emqx(self, path: str, body: dict[str, str]) -> httpx.Response:
        headers = {
            "accept": "application/json", "authorization": f"Bearer {self.secret}", "cache-control": "no-cache",
            "connection": "keep-alive", "content-type": "application/json", "keep-alive": "timeout=30, max=1000",
        }  # fmt: skip
        return await self.client.post(path, headers=headers, content=json.dumps(body, separators=(",", ":")))

    async def rmqtt_authenticate(
        self, username: str | None, password: str | None, client_id: str, query: str = ""
    ) -> httpx.Response:
        """rmqtt-auth-http: a form by serde_urlencoded, with fields in any order."""
        body = {"protocol": "5", "username": username or "", "clientid": client_id, "password": password or ""}
        return await self._rmqtt(f"/mqtt/authenticate{query}", body)

    async def rmqtt_authorize(
        self, username: str, client_id: str, access: str, topic: str, query: str = ""
    ) -> httpx.Response:
        """`access`: 1 subscribe, 2 publish."""
        body = {"topic": topic, "access": access, "ipaddr": "127.0.0.1", "username": username, "clientid": client_id}
        return await self._rmqtt(f"/mqtt/authorize{query}", body)

    async def _rmqtt(self, path: str, body: dict[str, str]) -> httpx.Response:
        headers = {
            "accept": "*/*", "authorization": f"Bearer {self.secret}", "cache-control": "no-cache",
            "connection": "keep-alive", "content-type": "application/x-www-form-urlencoded",
            "user-agent": "RMQTT/0.24.0",
        }  # fmt: skip
        return await self.client.post(path, headers=headers, content=urlencode(body))

    async def go_auth(self, path: str, form: bool = False, **body: object) -> httpx.Response:
        """backends/http.go: sorted keys. The secret is the password in http_host, which Go sends as Basic."""
        basic = base64.b64encode(f"devicestat:{self.secret}".encode()).decode()
        headers = {
            "user-agent": "mosquitto-3.0.0", "authorization": f"Basic {basic}", "accept-encoding": "gzip",
            "content-type": "application/x-www-form-urlencoded" if form else "application/json",
        }  # fmt: skip
        ordered = dict(sorted(body.items()))
        content = urlencode(ordered) if form else json.dumps(ordered, separators=(",", ":"))
        return await self.client.post(f"/mqtt/go-auth/{path}", headers=headers, content=content)
