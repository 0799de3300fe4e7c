"""The page and its files, as a client sees them."""

import gzip
import re
from collections.abc import Iterable, Iterator

import httpx
import msgspec
import pytest

from query_api.dashboard import shell
from query_api.dashboard.assets import CACHED, FOLDER, Assets, accepts_gzip, read_assets
from shared.settings import Settings
from tests import services

MOST_BYTES = 100_000
"""The code of the page with any one of its screens, compressed. The others are loaded when they are opened."""


def test_the_service_and_the_scripts_have_the_same_screens() -> None:
    script = (FOLDER / "static" / "router.js").read_text()
    assert re.findall(r'\{ path: "([^"]+)"', script) == list(shell.SCREENS)


async def test_every_screen_is_the_same_page(api: httpx.AsyncClient) -> None:
    first = await api.get("/")
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["content-security-policy"] == shell.POLICY
    other = await api.get("/ui/devices/7?from=now-6h&to=now&tz=Europe/Berlin")
    assert (other.status_code, other.content) == (200, first.content)
    assert "JavaScript" in first.text.partition("<noscript>")[2].partition("</noscript>")[0]


async def test_other_paths_are_problems(api: httpx.AsyncClient) -> None:
    for path in ("/ui/nothing", "/ui/devices/x", "/ui/devices/7/x", "/assets/x/static/main.js"):
        answer = await api.get(path, headers={"accept": "text/html"})
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
    for path in ("/ui", "/ui/devices"):
        assert (await api.get(path)).headers["location"] == "/"


async def test_every_file_of_the_page_exists(api: httpx.AsyncClient) -> None:
    """And what they import, so that nothing is asked for twice."""
    paths = await preloaded(api)
    assert len(paths) == len(set(paths)) > 20
    for path in paths:
        answer = await api.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, CACHED), path
        assert path.endswith(".css") or set(imported(path, answer.text)) <= set(paths), path


async def preloaded(api: httpx.AsyncClient) -> list[str]:
    """Return the addresses of the files that the page loads at once."""
    return re.findall(r'(?:href|src)="(/assets/[^"]+)"', (await api.get("/")).text)


def imported(path: str, script: str) -> Iterator[str]:
    """Yield the addresses of the scripts that a script imports, without those that it loads later."""
    for other in re.findall(r'(?:from|import) *"(\.[^"]+)"', script):
        yield httpx.URL("http://x" + path).join(other).path


async def test_the_files_of_the_page_do_not_count_as_requests(api_settings: Settings) -> None:
    async with services.api(msgspec.structs.replace(api_settings, rate_limit=20)) as api:
        paths = await preloaded(api)
        statuses = [(await api.get(path)).status_code for path in paths]
    assert len(statuses) > 20
    assert set(statuses) == {200}


async def test_files_are_compressed_for_those_who_accept_it(api: httpx.AsyncClient) -> None:
    path = read_assets().address("static/main.js")
    async with api.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
        content = b"".join([part async for part in answer.aiter_raw()])
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")
    plain = await api.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(content) == plain.content
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"


async def test_the_page_is_compressed(api: httpx.AsyncClient) -> None:
    short, plain = [await api.get("/", headers={"accept-encoding": coding}) for coding in ("gzip", "identity")]
    assert (short.headers["content-encoding"], short.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert "content-encoding" not in plain.headers
    assert short.content == plain.content
    assert int(short.headers["content-length"]) < int(plain.headers["content-length"]) / 3


async def test_the_code_of_the_page_is_small(api: httpx.AsyncClient) -> None:
    first = set(await preloaded(api))
    assets = read_assets()
    router = assets.find(assets.version, "static/router.js")
    assert router is not None
    screens = re.findall(r'import\("\./(screens/[^"]+)"\)', router.content.decode())
    sizes = {
        screen: await size_of(api, first | {assets.address(path) for path in assets.with_imports(f"static/{screen}")})
        for screen in screens
    }
    assert len(sizes) == len(shell.SCREENS)
    assert {screen: size for screen, size in sizes.items() if size >= MOST_BYTES} == {}


async def size_of(api: httpx.AsyncClient, addresses: Iterable[str]) -> int:
    """Return the number of bytes of the files, compressed."""
    heads = [await api.head(address, headers={"accept-encoding": "gzip"}) for address in addresses]
    return sum(int(head.headers["content-length"]) for head in heads)


@pytest.mark.parametrize(
    ("accepted", "is_accepted"),
    [
        ([], False), (["gzip"], True), (["br, gzip;q=0.5"], True), (["br", "GZIP"], True), (["gzip; q=0"], False),
        (["identity"], False), (["*"], False),
    ],
)  # fmt: skip
def test_accept_encoding(accepted: list[str], is_accepted: bool) -> None:
    assert accepts_gzip(accepted) is is_accepted


def test_the_version_is_of_the_content() -> None:
    one, other = Assets({"a.js": b"1", "b.js": b"2"}), Assets({"a.js": b"12", "b.js": b""})
    assert one.version == Assets({"b.js": b"2", "a.js": b"1"}).version
    assert one.version != other.version
    assert one.find(other.version, "a.js") is None
