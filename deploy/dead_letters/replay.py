"""`devicestat dead-letters replay`: processes dead letters again, and prints the outcome of each."""

from collections import Counter

from deploy.command import interruptible
from deploy.dead_letters.display import DETAIL_SHOWN
from deploy.terminal import Terminal, shortened
from ingestor.replay import Replay
from shared.dead_letters.letters import numbers
from shared.dead_letters.replaying import Incomplete, Replayed
from shared.dead_letters.selection import Selection
from shared.postgres.connections import Connection
from shared.settings import Settings
from shared.status.words import counted

PATIENCE_S = 2.0
"""Time after a signal for the current dead letter; then it is left unchanged."""
_GONE = "already replayed or purged"


class Tally:
    """Counts of outcomes."""

    def __init__(self) -> None:
        self.letters = 0
        self._gone = 0
        self._incomplete = 0
        self._readings: Counter[str] = Counter()

    def add(self, replayed: Replayed | Incomplete | None) -> None:
        """Count a dead letter."""
        self.letters += 1
        if replayed is None:
            self._gone += 1
        elif isinstance(replayed, Incomplete):
            self._incomplete += 1
        else:
            self._readings.update(outcomes(replayed))

    def lines(self) -> list[str]:
        """Return the totals by outcome."""
        lines = [f"{counted(count, 'reading')} {ending}" for ending, count in self._readings.items()]
        letters = ((self._gone, _GONE), (self._incomplete, "not kept whole: left unchanged"))
        return lines + [f"{counted(count, 'dead letter')} {what}" for count, what in letters if count]


async def replay(connection: Connection, settings: Settings, selection: Selection, terminal: Terminal) -> bool:
    """Replay the selected dead letters, oldest first; print a line for each, and the totals, also after an error.

    Returns whether all were replayed: SIGINT and SIGTERM stop it after the current one.
    """
    letters = await numbers(connection, selection)
    replays, tally = Replay(settings, connection), Tally()
    try:
        with terminal.progress(len(letters), "replaying") as advance:
            async with interruptible(PATIENCE_S) as stop:
                for number in letters:
                    replayed = await replays.replay(number)
                    tally.add(replayed)
                    terminal.result(f"{number}  {outcome(replayed)}")
                    advance()
                    if stop.is_set():
                        break
    finally:
        for line in (f"{tally.letters:,} of {counted(len(letters), 'dead letter')} replayed", *tally.lines()):
            terminal.say(line)
    return tally.letters == len(letters)


def outcomes(replayed: Replayed) -> dict[str, int]:
    """Return the number of readings by outcome."""
    refused = {f"refused again: {reason}": count for reason, count in replayed.refused.items()}
    counts = {"stored": replayed.stored, "there already": replayed.duplicates, **refused}
    return {ending: count for ending, count in counts.items() if count}


def outcome(replayed: Replayed | Incomplete | None) -> str:
    """Return the outcome of one dead letter, as one line."""
    if replayed is None:
        return _GONE
    if isinstance(replayed, Incomplete):
        return f"cannot be replayed: {replayed.detail}"
    ended = outcomes(replayed)
    if not ended:
        return "no readings: removed"
    ends = ", ".join(f"{counted(count, 'reading')} {ending}" for ending, count in ended.items())
    if len(ended) == len(replayed.refused) == 1:
        (ends,) = ended  # the whole message is refused
    detail = " ".join(replayed.detail.split())
    return f"{ends}: {shortened(detail, DETAIL_SHOWN)}" if detail else ends
