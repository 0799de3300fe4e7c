"""Pings to the broker, and the end of a connection on which nothing comes any more."""

import asyncio

from ingestor.mqtt.connection import NetworkConnection


def keep_alive(connection: NetworkConnection, seconds: int) -> None:
    """Has it done for as long as the connection holds; should that fail, the connection ends with its error.

    `seconds`: the Keep Alive of the connection.
    """
    task = asyncio.create_task(_keep_alive(connection, seconds), name="mqtt keep-alive")
    connection.closed.add_done_callback(lambda _: task.cancel())

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            connection.abort(error)

    task.add_done_callback(ended)


async def _keep_alive(connection: NetworkConnection, seconds: int) -> None:
    """Pings, also while reading is paused; gives up on a broker that is silent while it is not."""
    while True:
        await asyncio.sleep(seconds / 2)
        silent = silent_s(connection)
        if silent > 1.5 * seconds and not connection.is_paused:
            connection.abort(TimeoutError(f"not a word for {silent:.0f} s"))
        connection.ping()


def silent_s(connection: NetworkConnection) -> float:
    """How long nothing has come over the connection."""
    return asyncio.get_running_loop().time() - connection.heard_at
