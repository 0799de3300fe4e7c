"""Sign in as a browser does, for tests. The cookies are sent by hand, so that a test can change them."""

import httpx

PLAIN = "devicestat"
SECURE = "__Host-devicestat"
OWN = {"Sec-Fetch-Site": "same-origin"}
"""The header of a request of the service's own page."""


def session_of(answer: httpx.Response) -> tuple[str, str, dict[str, str]]:
    """Return the name and the value of the cookie that the response sets, and its attributes, in lower case."""
    (header,) = answer.headers.get_list("set-cookie")
    pair, *attributes = header.split(";")
    name, _, value = pair.partition("=")
    parts = (attribute.strip().partition("=") for attribute in attributes)
    return name, value.strip('"'), {key.lower(): setting.lower() for key, _, setting in parts}


async def sign_in(api: httpx.AsyncClient, key: str, headers: dict[str, str] = OWN) -> dict[str, str]:
    """Sign in, and return the header of the session."""
    answer = await api.post("/session", json={"key": key}, headers=headers)
    assert answer.status_code == 201, answer.text
    api.cookies.clear()
    name, value, _ = session_of(answer)
    return cookie(value, name)


def cookie(value: str, name: str = PLAIN) -> dict[str, str]:
    """Return the header with a cookie."""
    return {"Cookie": f"{name}={value}"}
