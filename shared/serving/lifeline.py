"""Detection of the parent's end by a pipe.

The parent keeps the writing end open and never writes. When the parent ends, even by SIGKILL, the system closes it, and
each child reads the end of file. PR_SET_PDEATHSIG is Linux only, and depends on the thread that forked.
"""

import asyncio
import os
from collections.abc import MutableMapping

VARIABLE = "_DEVICESTAT_LIFELINE_FD"
"""Variable with the reading end in a child's environment. It is no setting, so it does not begin with DEVICESTAT_."""


class Lifeline:
    """The parent's side: a pipe that stays open while the process runs."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()

    def environment(self) -> dict[str, str]:
        """Return variables for a child's environment. The child must also inherit the descriptor `reading`."""
        return {VARIABLE: str(self.reading)}

    def close(self) -> None:
        """Close the pipe; children that still run stop."""
        os.close(self._writing)
        os.close(self.reading)


def stop_with_parent(stop: asyncio.Event, environ: MutableMapping[str, str]) -> None:
    """Set the event when the parent ends, if there is a lifeline. Removes the variable from `environ`.

    Nothing is logged, because the parent read standard error.
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
