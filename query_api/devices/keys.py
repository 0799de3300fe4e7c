"""Reserved keys: those that no device may have at the configured broker (`shared.broker.names`)."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from shared.broker.names import KeyRules, rules_of
from shared.broker.password_file import TAKEN, users_among
from shared.settings import Settings


class Keys(msgspec.Struct, frozen=True):
    """Rules for the keys of devices. `passwords`: the broker's password file, if it has one."""

    rules: KeyRules
    passwords: Path | None = None

    async def faults(self, keys: Collection[str]) -> Mapping[str, str]:
        """Return the fault of each key that no device may have."""
        found = {key: fault for key in keys if (fault := self.rules.fault(key))}
        if self.passwords is None or not keys:
            return found
        return dict.fromkeys(await asyncio.to_thread(_users_among, self.passwords, keys), TAKEN) | found


def _users_among(path: Path, keys: Collection[str]) -> set[str]:
    """Return no users if the file cannot be read: the keys are checked again when the file is written."""
    try:
        return users_among(path.read_text(encoding="utf-8"), keys)
    except (OSError, UnicodeDecodeError):
        return set()


def keys_of(settings: Settings) -> Keys:
    """Return the rules for keys at the configured broker."""
    passwords = settings.broker_passwords
    return Keys(rules_of(settings), None if passwords is None else Path(passwords))
