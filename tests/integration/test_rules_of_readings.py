"""The rules of a reading, against the CHECKs of the table readings."""

import re
from typing import Any

import psycopg

from shared.readings.rules import AXIS_LIMIT

CHECKS = """
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = 'readings'::regclass AND contype = 'c'
"""


async def test_the_checks_have_the_range_of_the_rules(database: psycopg.AsyncConnection[Any]) -> None:
    found = await (await database.execute(CHECKS)).fetchall()
    ranges = {}
    for name, definition in found:
        axis = name.removeprefix("readings_").removesuffix("_is_in_range")
        ranges[axis] = [float(number) for number in re.findall(r"-?[0-9]+(?:\.[0-9]+)?", definition)]
        assert (f"({axis} >= " in definition, f"({axis} <= " in definition) == (True, True), definition
    assert ranges == {axis: [-AXIS_LIMIT, AXIS_LIMIT] for axis in "xyz"}
