"""Numbers of devices: of a list, and by their state (ADR 47)."""

from collections.abc import Mapping, Sequence
from typing import LiteralString

from query_api.devices.activity import State
from query_api.devices.search import condition
from shared.postgres.connections import Connection

_ALL = "SELECT count(*) FROM devices"


async def count_devices(connection: Connection, search: str | None) -> int:
    """Return the number of devices whose name or key contains the text."""
    if search is None:
        row = await (await connection.execute(_ALL)).fetchone()
    else:
        statement: LiteralString = f"{_ALL} WHERE {await condition(connection, search)}"
        row = await (await connection.execute(statement, {"search": search}, prepare=False)).fetchone()
    assert row is not None, "an aggregate has one row"
    return int(row[0])


_BY_STATE = "SELECT state, count(*) FROM device_activity GROUP BY state"


async def count_states(connection: Connection, search: str | None) -> Mapping[State, int]:
    """Return the number of devices of each state whose name or key contains the text."""
    statement: LiteralString = _BY_STATE
    if search is not None:
        statement = f"""
            SELECT state, count(*) FROM devices JOIN device_activity ON device_id = id
            WHERE {await condition(connection, search)} GROUP BY state
        """  # noqa: S608  # constants
    rows = await (await connection.execute(statement, {"search": search}, prepare=False)).fetchall()
    counts: dict[int, int] = dict(rows)
    return {state: counts.get(state.code, 0) for state in State}


_OF_STATES = "SELECT count(*) FROM device_activity WHERE state = ANY(%s::smallint[])"


async def total(connection: Connection, states: Sequence[State], search: str | None) -> int:
    """Return the number of devices of a list. `states`: those of the list; all of them: any."""
    if len(states) == len(State):
        return await count_devices(connection, search)
    if search is None:
        row = await (await connection.execute(_OF_STATES, ([state.code for state in states],))).fetchone()
        assert row is not None, "an aggregate has one row"
        return int(row[0])
    counts = await count_states(connection, search)
    return sum(counts[state] for state in states)
