"""Tokens that let a bulk operation go on: whoever confirms says what was counted, and nothing else than that is done.

A token holds when it ends and an HMAC-SHA-256 over the action, the filter, the count, whose key asked, and that end.
Its secret is of this process: a restart makes every token stale.  Pure: time and secret are arguments.
"""

from __future__ import annotations

import hmac
import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from actor_scheduler.limits import SECOND_US

if TYPE_CHECKING:
    from collections.abc import Mapping

LIFE_US: Final = 300 * SECOND_US  # for a person to read a number and to press a button

_TOKEN: Final = re.compile(r"([0-9]{1,16})\.([0-9a-f]{64})", re.ASCII)


class Intent(NamedTuple):
    """What is to be done: to which jobs, how many they were when they were counted, and who asked."""

    action: str
    which: Mapping[str, str]  # the filter, without what it leaves open
    jobs: int
    key_id: str


def confirm_with(intent: Intent, secret: bytes, now_us: int) -> tuple[str, int]:
    """Return the token that confirms an intent, and when it ends."""
    ends_us = now_us + LIFE_US
    return f"{ends_us}.{_seal(intent, secret, ends_us)}", ends_us


def confirms(token: str, intent: Intent, secret: bytes, now_us: int) -> bool:
    """Return whether a token was made for exactly this intent, with this secret, and has not ended."""
    read = _TOKEN.fullmatch(token)
    if read is None:
        return False
    ends_us = int(read[1])
    genuine = hmac.compare_digest(read[2], _seal(intent, secret, ends_us))
    return genuine and now_us < ends_us


def _seal(intent: Intent, secret: bytes, ends_us: int) -> str:
    # One way to write it down: names sorted, no spaces, every character that is not ASCII escaped.
    said = json.dumps([intent.action, dict(intent.which), intent.jobs, intent.key_id, ends_us], sort_keys=True)
    return hmac.new(secret, said.encode(), sha256).hexdigest()
