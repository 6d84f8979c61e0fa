"""What a file holds of crons at the end: their own rows as they changed, the runs of their ticks, and what was skipped.

The ticks that a cron should have had are worked out here, from what its row says, and without the scheduler's own rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from actor_scheduler import codec

if TYPE_CHECKING:
    from tests.crash.history import Trace

MINUTE_US: Final = 60_000_000
AT: Final = "@"  # between a cron's name and its tick: the op of a run

Change: TypeAlias = Literal["insert", "update", "delete"]


@dataclass(frozen=True, slots=True)
class Ticking:
    """When a cron ticks, and by whose clock. One with an interval has no expression."""

    every_us: int | None = None
    expr: str = "* * * * *"
    tz: str = "UTC"
    path: str = "crash:tick"
    overlap: str = "skip"
    external: bool = False
    enabled: bool = True

    @classmethod
    def of(cls, spec: bytes) -> Ticking:
        """Read a stored definition: not as the app does, which refuses intervals this short."""
        plain = codec.decode(spec[5 : 5 + int.from_bytes(spec[1:5], "big")])
        when = plain["schedule"]
        more = {"path": plain["path"], "overlap": plain["overlap"], "enabled": plain["enabled"]}
        if "every_us" in when:
            return cls(when["every_us"], external=plain["clock"] == "external", **more)
        return cls(None, when["cron"], when["tz"], external=plain["clock"] == "external", **more)

    def ticks(self, anchor_us: int, after_us: int, upto_us: int) -> list[int]:
        """Return its ticks in (after_us, upto_us]."""
        if self.every_us is not None:
            number = max((after_us - anchor_us) // self.every_us + 1, 0)
            return list(range(anchor_us + number * self.every_us, upto_us + 1, self.every_us))
        first_us = (after_us // MINUTE_US + 1) * MINUTE_US
        return [at_us for at_us in range(first_us, upto_us + 1, MINUTE_US) if self._matches(at_us)]

    def next_us(self, anchor_us: int, after_us: int) -> int:
        """Return its next tick; an expression of these tests has one in every few minutes."""
        within_us = self.every_us if self.every_us is not None else 10 * MINUTE_US
        return self.ticks(anchor_us, after_us, max(after_us, anchor_us) + within_us)[0]

    def _matches(self, at_us: int) -> bool:
        at = datetime.fromtimestamp(at_us // 1_000_000, ZoneInfo(self.tz))
        values = (at.minute, at.hour, at.day, at.month, at.isoweekday() % 7)
        return all(_one_of(text, value) for text, value in zip(self.expr.split(), values, strict=True))


def _one_of(text: str, value: int) -> bool:
    return text == "*" or (value % int(text[2:]) == 0 if text.startswith("*/") else value == int(text))


@dataclass(frozen=True, slots=True)
class CronState:
    """A cron's row, as it was after one change to it."""

    change: Change
    name: str
    ticking: Ticking
    anchor_us: int
    watermark_us: int
    fire_at_us: int | None = None
    paused: bool = False
    note: str = ""
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class CronRun:
    """The job of one tick; without `tick_us` it was asked for by hand."""

    id: str
    cron: str
    kind: str
    state: str
    tick_us: int | None
    cause: str | None = None
    attempt: int = 1
    created_at_us: int = 0
    completed_at_us: int = 0
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """A stretch of ticks that did not run."""

    cron: str
    reason: str
    first_us: int
    last_us: int
    ticks: int


@dataclass(frozen=True, slots=True)
class CronsLeft:
    """All of it. An effect, or a start, has as its op the cron and the tick that the run was told."""

    log: Sequence[CronState] = ()  # every change of every row, in order
    runs: Sequence[CronRun] = ()
    skips: Sequence[Skip] = ()
    effects: Sequence[Trace] = ()
    starts: Sequence[Trace] = ()
