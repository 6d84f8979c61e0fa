"""Who changed what, when, from where, and what came of it."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from actor_scheduler.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from runtime.http.who import Who

KEPT: Final = 1000
_CHARS_MAX: Final = 300

log = logging.getLogger("actor_scheduler.audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One thing that was done, or refused."""

    at: datetime
    who: str  # the id of the key
    via: str
    peer: str
    action: str
    target: str
    result: str
    request_id: str


class Audit:
    """The last 1000 deeds, newest last; each is written to the logger `actor_scheduler.audit` as well."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._deeds: deque[Deed] = deque(maxlen=KEPT)

    def note(self, who: Who | None, action: str, target: str, result: str, request_id: str) -> None:
        """Put a deed on record. Never raises; in the log, control characters are escaped."""
        deed = Deed(
            at=self._now(),
            who=who.key_id if who is not None else "-",
            via=who.via if who is not None else "-",
            peer=who.peer if who is not None else "-",
            action=action[:_CHARS_MAX],
            target=target[:_CHARS_MAX],
            result=result[:_CHARS_MAX],
            request_id=request_id,
        )
        self._deeds.append(deed)
        log.info(
            "%s by key %s (%s, %s): %s -> %s [%s]",
            deed.action, deed.who, deed.via, deed.peer, _one_line(deed.target), _one_line(deed.result), request_id,
        )  # fmt: skip

    def latest(self, limit: int) -> Sequence[Deed]:
        """Return the newest deeds, newest first."""
        return [deed for deed, _ in zip(reversed(self._deeds), range(limit), strict=False)]


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n")
