"""The list of formats, and the selection of one by `format` or Accept (RFC 9110 section 12.5.1)."""

import re
from collections.abc import Sequence

from litestar.datastructures.headers import MediaTypeHeader

from query_api.errors import Fault, displayed
from query_api.readings.formats.format import Format
from query_api.readings.formats.tables import ARROW, PARQUET
from query_api.readings.formats.text import CSV, NDJSON
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused, invalid
from query_api.web.answers.vary import depends_on

JSON = Format(name="json", media_type="application/json", file_suffix="json")
STREAMS = (CSV, NDJSON, ARROW, PARQUET)
ALL = (JSON, *STREAMS)
"""The first is the answer to a client that accepts anything."""
BY_NAME = {form.name: form for form in ALL}


def chosen(request: AnyRequest, name: str | None) -> Format:
    """Return the format of this name or, without a name, the one that Accept prefers. Raises Refused for none."""
    depends_on(request, "Accept")
    return _preferred(request) if name is None else _named(name)


def _named(name: str) -> Format:
    if name not in BY_NAME:
        raise invalid(Fault("format", f"expected {', '.join(BY_NAME)}, got {displayed(name)}"))
    if not BY_NAME[name].is_installed:
        raise Refused(problems.NOT_INSTALLED, f"format is {name}. {problems.NOT_INSTALLED.description}")
    return BY_NAME[name]


def disposition(device_id: int, form: Format) -> str:
    """Return the Content-Disposition of a device's readings: a browser saves a stream as a file, and displays JSON."""
    kind = "inline" if form is JSON else "attachment"
    return f'{kind}; filename="device-{device_id}.{form.file_suffix}"'


def _preferred(request: AnyRequest) -> Format:
    accept = ",".join(request.headers.getall("accept", ["*/*"]))
    found = best(accept, [form for form in ALL if form.is_installed])
    if found is not None:
        return found
    if best(accept, ALL):
        raise Refused(problems.NOT_INSTALLED, f"Accept: {displayed(accept)}. {problems.NOT_INSTALLED.description}")
    names = ", ".join(form.media_type for form in ALL)
    raise Refused(problems.NOT_ACCEPTABLE, f"Accept is {displayed(accept)}: readings are available as {names}")


def best(accept: str, offered: Sequence[Format]) -> Format | None:
    """Return the offered format of the highest quality, the first of equals; None if all are refused.

    Malformed ranges are ignored. A lone * means */*, as old clients send it.
    """
    parts = (part.strip().lower() for part in accept.split(","))
    ranges = [MediaTypeHeader(re.sub(r"^\*(?=\s*(;|$))", "*/*", part)) for part in parts]
    ranges = [given for given in ranges if given.maintype and given.subtype]
    if not ranges:
        return offered[0]
    qualities = [_quality(MediaTypeHeader(form.media_type), ranges) for form in offered]
    return offered[qualities.index(max(qualities))] if max(qualities) > 0 else None


def _quality(offered: MediaTypeHeader, ranges: Sequence[MediaTypeHeader]) -> float:
    """Return the quality that the most specific matching range assigns to the type."""
    matching = [given for given in ranges if offered.match(given)]
    if not matching:
        return 0.0
    return _weight(max(matching, key=lambda given: (given.maintype != "*", given.subtype != "*")))


def _weight(given: MediaTypeHeader) -> float:
    try:
        weight = float(given.params.get("q", "1"))
    except ValueError:
        return 1.0
    return weight if weight >= 0 else 1.0  # NaN or negative
