"""CSV and NDJSON, which PostgreSQL writes.

A number has a decimal point, and a timestamp has six fractional digits, as clients infer the type of a column from its
first values. PostgreSQL writes 1 for 1.0, and 1e-07 for 1.0e-07.
"""

from query_api.readings.formats.format import StreamFormat

_TIMESTAMP = """to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_X, _Y, _Z = (
    f"""CASE WHEN {axis} = trunc({axis}) THEN {axis}::text || '.0' WHEN strpos({axis}::text, '.') > 0 THEN {axis}::text
             ELSE replace({axis}::text, 'e', '.0e') END"""
    for axis in ("x", "y", "z")
)
CSV = StreamFormat(
    name="csv",
    media_type="text/csv",
    file_suffix="csv",
    description="A header line, then a line for each reading.",
    is_text=True,
    columns=f"id, device_id, {_X} AS x, {_Y} AS y, {_Z} AS z, {_TIMESTAMP} AS timestamp",
    options=" (FORMAT csv, HEADER)",
)
# COPY's text format doubles a backslash. JSON of numbers and times has none.
NDJSON = StreamFormat(
    name="ndjson",
    media_type="application/x-ndjson",
    file_suffix="ndjson",
    description="A line of JSON for each reading.",
    is_text=True,
    columns=f"""
        concat('{{"id":', id, ',"device_id":', device_id, ',"x":', {_X}, ',"y":', {_Y}, ',"z":', {_Z},
               ',"timestamp":"', {_TIMESTAMP}, '"}}')
    """,
)
