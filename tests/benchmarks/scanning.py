"""The API with analyses as they were before sealed blocks: `python -m tests.benchmarks.scanning serve`.

An analysis is two statements: the extent of the device, and SQL aggregates over its rows, which are planned each time.
"""

from collections.abc import Sequence
from datetime import datetime

from deploy.cli.main import main
from query_api.analyses import immediate
from query_api.statistics.analysis import Analysis
from query_api.statistics.figures import FigureNames, Figures
from query_api.statistics.source import Source
from shared.postgres.connections import Connection
from shared.readings.extents import extent_of

_FIGURES = ", ".join(
    f"""min({axis}), max({axis}), sum(round({axis} * 1024)) / 1024 + sum({axis} - round({axis} * 1024) / 1024),
        count({axis}), percentile_disc(ARRAY[0.5, 0.5000000001]) WITHIN GROUP (ORDER BY {axis})"""
    for axis in "xyz"
)
_SCAN = f"""
    SELECT ARRAY(SELECT id FROM devices WHERE id = ANY(%s::bigint[])), {_FIGURES}
    FROM readings WHERE device_id = ANY(%s::bigint[]) AND recorded_at >= %s AND recorded_at <= %s
""".encode()  # noqa: S608  # constants
_A_FIGURE = 5


async def scan(
    connection: Connection,
    device: int | Sequence[int],
    start: datetime | None,
    end: datetime | None,
    _: FigureNames,
    source: Source,
) -> Analysis:
    """Return the five figures of one device."""
    devices = [device]
    first, last = (await extent_of(connection, [int(str(device))])).within(start, end)
    parameters = devices, devices, first, last
    row = await (await connection.execute(_SCAN, parameters, prepare=False, binary=True)).fetchone()
    assert row is not None, "an aggregate has one row"
    source.add(0, row[4])
    axes = (row[begin : begin + _A_FIGURE] for begin in range(1, len(row), _A_FIGURE))
    return Analysis(*(Figures(*others, float(sum(middle)) / 2) for *others, middle in axes))


if __name__ == "__main__":
    immediate.analyse = scan  # type: ignore[assignment]
    main()
