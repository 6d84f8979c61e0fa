"""Sessions of browsers: a key is exchanged for a random id, which lives for hours and says nothing."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from actor_scheduler.limits import SECOND_US

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_US: Final = 30 * 60 * SECOND_US
LIFE_US: Final = 12 * 3600 * SECOND_US
SESSIONS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Session:
    """One browser that is logged in. Times are of a clock that nobody sets."""

    role: Literal["read", "operate"]
    key_id: str
    began_us: int
    seen_us: int

    def alive(self, now_us: int) -> bool:
        """Return whether it has ended neither of age nor of idleness."""
        return now_us < self.ends_us(self.seen_us)

    def ends_us(self, seen_us: int) -> int:
        """Return when it ends unless it is used after `seen_us`."""
        return min(self.began_us + LIFE_US, seen_us + IDLE_US)


class Sessions:
    """The sessions of one surface. They are in memory only: a restart ends them.

    Kept by the SHA-256 digest of their ids, so that nothing that reads memory or a log learns an id.  `monotonic_us`
    is a clock that nobody sets.
    """

    def __init__(self, monotonic_us: Callable[[], int]) -> None:
        self._monotonic_us = monotonic_us
        self._sessions: dict[str, Session] = {}  # the longest idle first

    def begin(self, role: Literal["read", "operate"], key_id: str) -> str:
        """Begin a session and return its id: 256 random bits."""
        now_us = self._monotonic_us()
        self._sessions = {name: each for name, each in self._sessions.items() if each.alive(now_us)}
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        token = secrets.token_urlsafe(32)
        self._sessions[name_of(token)] = Session(role, key_id, now_us, now_us)
        return token

    def use(self, token: str) -> tuple[str, Session] | None:
        """Return the session of an id, and its name, and note that it was used; None when there is none any more."""
        name = name_of(token)
        session = self._sessions.pop(name, None)
        now_us = self._monotonic_us()
        if session is None or not session.alive(now_us):
            return None
        self._sessions[name] = used = replace(session, seen_us=now_us)
        return name, used

    def alive(self, name: str) -> bool:
        """Return whether a session has not ended. To look is not to use."""
        session = self._sessions.get(name)
        return session is not None and session.alive(self._monotonic_us())

    def end(self, name: str) -> None:
        """End a session, now."""
        self._sessions.pop(name, None)


def name_of(token: str) -> str:
    """Return what a session is kept under."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
