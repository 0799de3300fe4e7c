"""Static files, each at an address with the version of all of them, so that browsers never ask again.

The files are kept in memory, and compressed when they are first requested: the page's own are a few hundred kilobytes.
"""

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from posixpath import normpath

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from query_api.access.rules import Permission
from query_api.dashboard import vendored
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused
from query_api.web.answers.vary import depends_on
from query_api.web.limits.rate_limit import UNCOUNTED

FOLDER = Path(__file__).parent
STATIC = "static"
STYLE = f"{STATIC}/style.css"
"""All styles in one file, half as long as all of them when compressed: uPlot's, then those of the page by name."""
_UPLOT_STYLE = f"{vendored.UPLOT}/uPlot.min.css"
CACHED = "public, max-age=31536000, immutable"
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_VERSION_BYTES = 8


class Asset:
    """A file: its content, and the content in gzip."""

    def __init__(self, path: str, content: bytes) -> None:
        self.content = content
        self.media_type = _MEDIA_TYPES[Path(path).suffix]

    @cached_property
    def compressed(self) -> bytes:
        """The content in gzip. It is computed once."""
        return gzip.compress(self.content, mtime=0)


class Assets:
    """Files by their path, such as "static/main.js"."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {path: Asset(path, content) for path, content in files.items()}
        self.version = _digest(files)

    def address(self, path: str) -> str:
        """Return the address of a file or of a folder."""
        return f"/assets/{self.version}/{path}"

    def find(self, version: str, path: str) -> Asset | None:
        """Return the file; None if it does not exist, or is of another version."""
        return self._files.get(path) if version == self.version else None

    def with_imports(self, *paths: str) -> Sequence[str]:
        """Return the paths of scripts and of those that they import, directly or not."""
        found, left = dict[str, None](), list(paths)
        while left:
            path = left.pop(0)
            if path not in found:
                found[path] = None
                left += self._imported(path)
        return list(found)

    def _imported(self, path: str) -> Iterator[str]:
        for other in _IMPORT.findall(self._files[path].content.decode()):
            yield normpath(f"{path}/../{other}")


_IMPORT = re.compile(r'\b(?:from|import) *"(\.[^"]+)"')
"""The path in a static import. Scripts that are loaded later are in parentheses."""


def _digest(files: Mapping[str, bytes]) -> str:
    digest = blake2b(digest_size=_VERSION_BYTES)
    for path, content in sorted(files.items()):
        digest.update(b"%s\0%d\0" % (path.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()


@cache
def read_assets() -> Assets:
    """Read all files, once per process. Raises FileNotFoundError in a checkout without `make setup`."""
    own = sorted(path for path in (FOLDER / STATIC).rglob("*") if path.suffix in _MEDIA_TYPES)
    names = [path.relative_to(FOLDER).as_posix() for path in own if path.suffix != ".css"]
    style = b"\n".join([_read(_UPLOT_STYLE), *(path.read_bytes() for path in own if path.suffix == ".css")])
    return Assets({STYLE: style, **{name: _read(name) for name in (*names, *vendored.SERVED)}})


def _read(name: str) -> bytes:
    try:
        content = (FOLDER / name).read_bytes()
    except FileNotFoundError as error:
        error.add_note("the files of npm packages are missing: run `make setup`")
        raise
    is_own_script = name.startswith(f"{STATIC}/") and name.endswith(".js")
    return without_comments(content) if is_own_script else content


_COMMENT = re.compile(rb"^[ \t]*/\*\*(?:(?!\*/).)*\*/[ \t]*$", re.DOTALL | re.MULTILINE)


def without_comments(script: bytes) -> bytes:
    """Return the script without its documentation, which is a quarter of it. The numbers of the lines stay the same."""
    return _COMMENT.sub(lambda found: b"\n" * found[0].count(b"\n"), script)


def route(assets: Assets) -> HTTPRouteHandler:
    """Return the route of the files."""

    @get(
        "/assets/{version:str}/{file_path:path}",
        permission=Permission.PUBLIC,
        include_in_schema=False,
        opt={UNCOUNTED: True},
    )
    async def read_asset(request: AnyRequest, version: FromPath[str], file_path: FromPath[str]) -> Response[bytes]:
        depends_on(request, "Accept-Encoding")
        found = assets.find(version, file_path.lstrip("/"))
        if found is None:
            raise Refused(problems.NOT_FOUND, "this file does not exist, or is of another version: reload the page")
        if not accepts_gzip(request.headers.getall("accept-encoding", [])):
            return Response(found.content, media_type=found.media_type, headers={"Cache-Control": CACHED})
        headers = {"Cache-Control": CACHED, "Content-Encoding": "gzip"}
        return Response(found.compressed, media_type=found.media_type, headers=headers)

    return read_asset


def accepts_gzip(accepted: Sequence[str]) -> bool:
    """Return whether the values of Accept-Encoding name gzip, with a weight that is not 0 (RFC 9110 section 12.5.3)."""
    for coding in ",".join(accepted).lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
