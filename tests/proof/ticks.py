"""The ticks of a schedule, by arithmetic and by reading the wall clock: what the simulated crons are held against.

It shares no code with `actor_scheduler.crons`.  A day of UTC in which no offset changes has the times of its dates; any
other is scanned minute by minute (`tests.crons.scan`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from tests.crons.scan import EPOCH, naive, walls_of

MINUTE_US: Final = 60_000_000
DAY_US: Final = 1440 * MINUTE_US
_DAYS_MAX: Final = 366 * 9  # without a tick: 29 February over a century that has none


class When(NamedTuple):
    """A schedule: an interval, or five fields in a zone."""

    every_us: int = 0
    expr: str = ""
    tz: str = "UTC"

    def ticks(self, anchor_us: int) -> Ticks:
        """Return its ticks."""
        return Ticks(self, anchor_us)


class Ticks:
    """The ticks of a schedule; of an interval from its anchor on."""

    def __init__(self, when: When, anchor_us: int) -> None:
        self._every_us = when.every_us
        self._anchor_us = anchor_us
        self._fields = (when.expr, when.tz)

    def count(self, after_us: int, upto_us: int) -> int:
        """Return how many there are in (after, upto]."""
        if upto_us <= after_us:
            return 0
        if self._every_us:
            return self._number(upto_us) - self._number(after_us)
        first, last = after_us // DAY_US, upto_us // DAY_US
        whole = sum(len(ticks_of_day(*self._fields, day)) for day in range(first, last))
        return (
            whole
            + bisect_right(ticks_of_day(*self._fields, last), upto_us)
            - bisect_right(ticks_of_day(*self._fields, first), after_us)
        )

    def after(self, at_us: int) -> int | None:
        """Return the first one strictly after."""
        if self._every_us:
            return self._anchor_us + self._number(at_us) * self._every_us
        day = at_us // DAY_US
        for later in range(day, day + _DAYS_MAX):
            ticks = ticks_of_day(*self._fields, later)
            at = bisect_right(ticks, at_us)
            if at < len(ticks):
                return ticks[at]
        return None

    def before(self, at_us: int) -> int | None:
        """Return the last one strictly before."""
        if self._every_us:
            number = self._number(at_us - 1)
            return self._anchor_us + (number - 1) * self._every_us if number else None
        day = at_us // DAY_US
        for earlier in range(day, day - _DAYS_MAX, -1):
            ticks = ticks_of_day(*self._fields, earlier)
            at = bisect_left(ticks, at_us)
            if at:
                return ticks[at - 1]
        return None

    def _number(self, at_us: int) -> int:
        """Return how many there are up to an instant, itself included."""
        return max((at_us - self._anchor_us) // self._every_us + 1, 0)


@lru_cache(maxsize=20_000)
def ticks_of_day(expr: str, tz: str, day: int) -> array[int]:
    """Return the ticks in one day of UTC, counted from 1970."""
    first = day * 1440
    offsets = {_offset(tz, minute) for minute in (first - 1440, first, first + 1440)}
    fields = naive(expr)
    if len(offsets) > 1:
        found = fields.ticks(walls_of(ZoneInfo(tz), first, first + 1439))
        return array("q", (minute * MINUTE_US for minute in found))
    (offset,) = offsets
    minutes = (
        date * 1440 + time - offset
        for date in ((first + offset) // 1440, (first + offset) // 1440 + 1)
        if fields.day_matches(date)
        for time in _times(expr)
    )
    return array("q", (minute * MINUTE_US for minute in minutes if first <= minute < first + 1440))


@lru_cache(maxsize=512)
def _times(expr: str) -> tuple[int, ...]:
    return tuple(sorted(naive(expr).times))


@lru_cache(maxsize=50_000)
def _offset(tz: str, minute: int) -> int:
    shown = (EPOCH + timedelta(minutes=minute)).astimezone(ZoneInfo(tz)).utcoffset()
    assert shown is not None
    return shown // timedelta(minutes=1)


def at(at_us: int | None) -> str:
    """Return a moment for people."""
    if at_us is None:
        return "never"
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%S}.{at_us % 1_000_000:06}"
