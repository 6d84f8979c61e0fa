"""Tokens that let a bulk operation go on, once: whoever confirms says what was counted, and nothing else is done.

A token holds its number, how many jobs were counted, up to which mark, and when it ends; and an HMAC-SHA-256 over that,
the action, the filter, and whose key asked.  The secret is of this process: a restart makes every token stale.
"""

from __future__ import annotations

import hmac
import json
import os
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from actor_scheduler.limits import SECOND_US
from actor_scheduler.model import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LIFE_US: Final = 300 * SECOND_US  # for a person to read a number and to press a button
USED_MAX: Final = 10_000  # tokens, ~0.1 KiB each

_NUMBER: Final = r"(0|[1-9][0-9]{0,18})"
_TOKEN: Final = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}\.{_NUMBER}\.{_NUMBER}\.([0-9a-f]{{64}})", re.ASCII)


class Intent(NamedTuple):
    """What is to be done, to which jobs, and who asked."""

    action: str
    which: Mapping[str, str]  # the filter, without what it leaves open
    key_id: str


class Confirmed(NamedTuple):
    """What a token stands for: how many jobs were counted, up to which mark, and until when it can be used."""

    number: int  # no two tokens have the same
    jobs: int
    mark: Mark
    ends_us: int


class Confirmations:
    """Gives tokens, and takes each of them once, for the intent it was given for, before it ends.

    Tokens that were used are remembered until they end.  When there are too many of them, all tokens become stale.
    """

    def __init__(self, chance: Callable[[int], bytes] = os.urandom) -> None:
        self._chance = chance
        self._secret = chance(32)
        self._given = 0
        self._used: dict[int, int] = {}  # when they end, by number

    def __len__(self) -> int:
        """Return how many used tokens are remembered."""
        return len(self._used)

    def give(self, intent: Intent, jobs: int, mark: Mark, now_us: int) -> tuple[str, int]:
        """Return the token that confirms an intent, and when it ends."""
        self._given += 1
        confirmed = Confirmed(self._given, jobs, mark, now_us + LIFE_US)
        said = f"{confirmed.number}.{jobs}.{mark.seq}.{mark.at_us}.{confirmed.ends_us}"
        return f"{said}.{self._seal(intent, confirmed)}", confirmed.ends_us

    def look(self, token: str, intent: Intent, now_us: int) -> Confirmed | None:
        """Return what a token stands for, if it can be used for this intent."""
        read = _TOKEN.fullmatch(token)
        if read is None:
            return None
        number, jobs, seq, at_us, ends_us = map(int, read.groups()[:5])
        confirmed = Confirmed(number, jobs, Mark(seq, at_us), ends_us)
        genuine = hmac.compare_digest(read[6], self._seal(intent, confirmed))
        return confirmed if genuine and now_us < ends_us and number not in self._used else None

    def use(self, token: str, intent: Intent, now_us: int) -> bool:
        """Return whether a token can be used for this intent; from now on it can't."""
        confirmed = self.look(token, intent, now_us)
        if confirmed is None:
            return False
        if len(self._used) >= USED_MAX:
            self._used = {number: ends_us for number, ends_us in self._used.items() if now_us < ends_us}
        if len(self._used) >= USED_MAX:
            self._secret = self._chance(32)
            self._used.clear()
        else:
            self._used[confirmed.number] = confirmed.ends_us
        return True

    def _seal(self, intent: Intent, confirmed: Confirmed) -> str:
        # One way to write it down: names sorted, no spaces, every character that is not ASCII escaped.
        said = json.dumps([intent.action, dict(intent.which), intent.key_id, confirmed], sort_keys=True)
        return hmac.new(self._secret, said.encode(), sha256).hexdigest()
