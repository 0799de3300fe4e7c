"""The media types that readings come in, and which of them a request asks for (RFC 9110 section 12.5.1)."""

import re
from collections.abc import Sequence
from importlib.util import find_spec

from litestar.datastructures.headers import MediaTypeHeader

from query_api.errors import Fault, displayed
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused, invalid
from query_api.web.answers.vary import depends_on

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"

TABLES = (ARROW, PARQUET)
"""Only with the extra devicestat[arrow]."""
ALL = (JSON, CSV, NDJSON, *TABLES)
"""The first is what is sent to those who take anything."""


BY_NAME = {"json": JSON, "csv": CSV, "ndjson": NDJSON, "arrow": ARROW, "parquet": PARQUET}
"""By what the parameter `format` and the suffix of a path call them."""
SUFFIXES = {JSON: "json", CSV: "csv", NDJSON: "ndjson", ARROW: "arrows", PARQUET: "parquet"}
"""Of a file's name. `.arrows` is that of Arrow's IPC stream, `.arrow` of its file."""


def tables_installed() -> bool:
    """Whether the extra is installed. It is not imported: that takes longer than the whole start of the API."""
    return find_spec("pyarrow") is not None


def chosen(request: AnyRequest, name: str | None) -> str:
    """The media type of this name or, without one, that Accept prefers of those we have. Raises Refused for none."""
    depends_on(request, "Accept")
    return _preferred(request) if name is None else _named(name)


def _named(name: str) -> str:
    if name not in BY_NAME:
        raise invalid(Fault("format", f"expected {', '.join(BY_NAME)}, got {displayed(name)}"))
    media_type = BY_NAME[name]
    if media_type in TABLES and not tables_installed():
        raise Refused(problems.NOT_INSTALLED, f"format is {name}. {problems.NOT_INSTALLED.description}")
    return media_type


def disposition(device_id: int, media_type: str) -> str:
    """The Content-Disposition of a device's readings: a browser saves a stream under this name, and shows JSON."""
    kind = "inline" if media_type == JSON else "attachment"
    return f'{kind}; filename="device-{device_id}.{SUFFIXES[media_type]}"'


def _preferred(request: AnyRequest) -> str:
    accept = ",".join(request.headers.getall("accept", ["*/*"]))
    installed = tables_installed()
    found = best(accept, ALL if installed else [kind for kind in ALL if kind not in TABLES])
    if found is not None:
        return found
    if not installed and best(accept, TABLES):
        raise Refused(problems.NOT_INSTALLED, f"Accept: {displayed(accept)}. {problems.NOT_INSTALLED.description}")
    raise Refused(problems.NOT_ACCEPTABLE, f"Accept is {displayed(accept)}: readings come as {', '.join(ALL)}")


def best(accept: str, offered: Sequence[str]) -> str | None:
    """The offered type of the highest quality, of equal ones the first; None where all are refused.

    What cannot be read is passed over, and a lone * is what old clients say for */*.
    """
    parts = (part.strip().lower() for part in accept.split(","))
    ranges = [MediaTypeHeader(re.sub(r"^\*(?=\s*(;|$))", "*/*", part)) for part in parts]
    ranges = [given for given in ranges if given.maintype and given.subtype]
    if not ranges:
        return offered[0]
    qualities = {kind: _quality(MediaTypeHeader(kind), ranges) for kind in offered}
    found = max(offered, key=qualities.__getitem__)
    return found if qualities[found] > 0 else None


def _quality(offered: MediaTypeHeader, ranges: Sequence[MediaTypeHeader]) -> float:
    """What the most specific of the ranges that hold the type gives it."""
    fitting = [given for given in ranges if offered.match(given)]
    if not fitting:
        return 0.0
    return _weight(max(fitting, key=lambda given: (given.maintype != "*", given.subtype != "*")))


def _weight(given: MediaTypeHeader) -> float:
    try:
        weight = float(given.params.get("q", "1"))
    except ValueError:
        return 1.0
    return weight if weight >= 0 else 1.0  # not a number, or less than nothing
