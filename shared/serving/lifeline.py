"""The end of the process that started this one, seen as the end of a pipe.

The parent keeps the writing end open and never writes. However the parent ends, also by kill -9, the system closes it,
and each child reads the end of file. PR_SET_PDEATHSIG would do that on Linux alone, and follows the thread that forked.
"""

import asyncio
import os
from collections.abc import MutableMapping

VARIABLE = "_DEVICESTAT_LIFELINE_FD"
"""Names the reading end in the environment of a child. It is no setting: its name does not begin with DEVICESTAT_."""


class Lifeline:
    """The parent's side: a pipe that is open for as long as the process runs."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()

    def environment(self) -> dict[str, str]:
        """Return what a child's environment needs; the child has to inherit the descriptor `reading` as well."""
        return {VARIABLE: str(self.reading)}

    def close(self) -> None:
        """Close the pipe; children that still run stop."""
        os.close(self._writing)
        os.close(self.reading)


def stop_with_parent(stop: asyncio.Event, environ: MutableMapping[str, str]) -> None:
    """Set the event when the parent ends, where it has given a lifeline. Takes the variable out of the environment.

    Nothing is logged: the parent had the other end of standard error.
    """
    given = environ.pop(VARIABLE, None)
    if given is None:
        return
    loop, reading = asyncio.get_running_loop(), int(given)

    def ended() -> None:
        loop.remove_reader(reading)
        os.close(reading)
        stop.set()

    loop.add_reader(reading, ended)
