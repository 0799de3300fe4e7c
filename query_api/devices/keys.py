"""Keys that no device may have at the broker of the settings (`shared.broker.names`)."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from shared.broker.names import KeyRules, rules_of
from shared.broker.password_file import TAKEN, users_among
from shared.settings import Settings


class Keys(msgspec.Struct, frozen=True):
    """The keys that devices may have. `passwords`: the broker's password file, where it has one."""

    rules: KeyRules
    passwords: Path | None = None

    async def faults(self, keys: Collection[str]) -> Mapping[str, str]:
        """Return why no device may have these keys, by key."""
        found = {key: fault for key in keys if (fault := self.rules.fault(key))}
        if self.passwords is None or not keys:
            return found
        return dict.fromkeys(await asyncio.to_thread(_users_among, self.passwords, keys), TAKEN) | found


def _users_among(path: Path, keys: Collection[str]) -> set[str]:
    """A file that cannot be read is passed over: a key is looked at once more when the file is written."""
    try:
        return users_among(path.read_text(encoding="utf-8"), keys)
    except (OSError, UnicodeDecodeError):
        return set()


def keys_of(settings: Settings) -> Keys:
    """Return the keys that devices may have at the broker of the settings."""
    passwords = settings.broker_passwords
    return Keys(rules_of(settings), None if passwords is None else Path(passwords))
