"""`devicestat dead-letters replay`: puts dead letters back in, and says what became of each."""

from collections import Counter

from deploy.cli.command import interruptible
from deploy.cli.terminal import Terminal, counted, shortened
from deploy.dead_letters.selection import DETAIL_SHOWN, Selection, numbers
from ingestor.replay import Incomplete, Replay, Replayed
from shared.postgres.connections import Connection
from shared.readings.store import prepare
from shared.settings import Settings

PATIENCE_S = 2.0
"""After a signal the letter in hand has so long; then it is left as it was."""
_GONE = "gone: replayed or purged by someone else"


class Tally:
    """What has become of the letters so far."""

    def __init__(self) -> None:
        self.letters = 0
        self._gone = 0
        self._incomplete = 0
        self._readings: Counter[str] = Counter()

    def add(self, replayed: Replayed | Incomplete | None) -> None:
        """Counts a letter."""
        self.letters += 1
        if replayed is None:
            self._gone += 1
        elif isinstance(replayed, Incomplete):
            self._incomplete += 1
        else:
            self._readings.update(fates(replayed))

    def lines(self) -> list[str]:
        """The totals, by fate."""
        lines = [f"{counted(count, 'reading')} {fate}" for fate, count in self._readings.items()]
        letters = ((self._gone, _GONE), (self._incomplete, "not kept whole: left as they are"))
        return lines + [f"{counted(count, 'dead letter')} {what}" for count, what in letters if count]


async def replay(connection: Connection, settings: Settings, selection: Selection, terminal: Terminal) -> bool:
    """Replays them, the oldest first: a line for each, then the totals, also when it fails.

    Returns whether it came to the end: SIGINT and SIGTERM stop it after the letter in hand.
    """
    letters = await numbers(connection, selection)
    await prepare(connection)
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


def fates(replayed: Replayed) -> dict[str, int]:
    """How many of the readings came to which end."""
    refused = {f"refused again: {reason}": count for reason, count in replayed.refused.items()}
    counts = {"stored": replayed.stored, "there already": replayed.duplicates, **refused}
    return {fate: count for fate, count in counts.items() if count}


def outcome(replayed: Replayed | Incomplete | None) -> str:
    """What became of one dead letter, on one line."""
    if replayed is None:
        return _GONE
    if isinstance(replayed, Incomplete):
        return f"cannot be replayed: {replayed.detail}"
    ended = fates(replayed)
    if not ended:
        return "holds no reading: removed"
    ends = ", ".join(f"{counted(count, 'reading')} {fate}" for fate, count in ended.items())
    if len(ended) == len(replayed.refused) == 1:
        (ends,) = ended  # all of it is refused, however many readings it holds
    detail = " ".join(replayed.detail.split())
    return f"{ends}: {shortened(detail, DETAIL_SHOWN)}" if detail else ends
