"""The ticks of a cron expression in a zone: the next one, the latest one, how many. Pure.

Whole seconds inside; instants are UTC, `wall` is the zone's own clock, counted as if it were UTC.  A day is looked up
in a table of months, a time of the day in a sorted tuple, a change of the clock in the zone's line, each by bisection;
so the cost of a search is bounded by the months of the table (2,784) and the changes of a zone (about 500 at most).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from actor_scheduler.crons.fields import fields_of
from actor_scheduler.crons.wall import END, line_of
from actor_scheduler.limits import SECOND_US

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from actor_scheduler.crons.fields import Days, Fields
    from actor_scheduler.crons.wall import Line

_DAY: Final = 86_400
_NOWHERE: Final = (0, -1, 0, 0)  # a stretch without an instant


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


# One entry per month, January 1969 to December 2200: a zone's wall may be a day off at both ends of the search.
_LENGTHS: Final = tuple(
    29 if month == 2 and _is_leap(year) else 28 if month == 2 else 30 if month in (4, 6, 9, 11) else 31
    for year in range(1969, 2201)
    for month in range(1, 13)
)
_FIRST_DAYS: Final = tuple(accumulate(_LENGTHS, initial=-365))  # day 0 is 1970-01-01; one more than there are months
_MONTHS: Final = len(_LENGTHS)
# Months of the same name, length and first weekday have the same matching days: there are 91 kinds.
_KINDS_OF: Final = tuple((at % 12 + 1, _LENGTHS[at], (_FIRST_DAYS[at] + 4) % 7) for at in range(_MONTHS))  # 0: Sunday
_KINDS: Final = tuple(sorted(set(_KINDS_OF)))
_KIND: Final = tuple(_KINDS.index(kind) for kind in _KINDS_OF)


@lru_cache(maxsize=4096)
def ticks_of(expr: str, zone: ZoneInfo) -> CronTicks:
    """Return the ticks of an expression in a zone. Raises InvalidCron."""
    return CronTicks(fields_of(expr), line_of(zone))


@lru_cache(maxsize=1024)
def _matching(days: Days) -> tuple[int, ...]:
    """Return the matching days of each kind of month, bit 0 the first day."""
    return tuple(days.in_month(*kind) if month in days.months else 0 for month, *kind in _KINDS)


class CronTicks:
    """The instants at which one expression fires in one zone, 1970 to 2199. Never changes but for what it remembers."""

    __slots__ = ("_here", "_hourly", "_line", "_matching", "_times")

    def __init__(self, fields: Fields, line: Line) -> None:
        self._times = fields.times
        self._matching = _matching(fields.days)
        self._hourly = fields.hourly
        self._line = line
        self._here = _NOWHERE

    def next_us(self, after_us: int) -> int | None:
        """Return the first tick strictly after; None when there is none up to the end of 2199."""
        second = after_us // SECOND_US + 1
        low, high, offset, segment = self._here
        if not low <= second < high:
            if second >= END:
                return None
            second = max(second, 0)
            low, high, offset, segment = self._place(second)
            if second < low:
                return _us(self._hourly_from(second) if self._hourly else self._fixed_from(second))
        wall = self._wall_from(second + offset)
        if wall is None:
            return None
        if wall - offset < high:
            return (wall - offset) * SECOND_US
        return _us(self._hourly_of(wall, segment) if self._hourly else self._line.first_time(wall))

    def latest_us(self, at_us: int) -> int | None:
        """Return the last tick at or before; None when there is none since 1970."""
        second = min(at_us // SECOND_US, END - 1)
        if second < 0:
            return None
        low, high, offset, _ = self._here
        if low <= second < high:
            wall = self._wall_upto(second + offset)
            if wall is not None and wall - offset >= low:
                return (wall - offset) * SECOND_US
        tick = self._hourly_upto(second) if self._hourly else self._fixed_upto(second)
        return None if tick is None else tick * SECOND_US

    def count(self, after_us: int, upto_us: int) -> int:
        """Return how many ticks there are in (after_us, upto_us]. Costs days and changes of the clock, not ticks."""
        first, last = max(after_us // SECOND_US + 1, 0), min(upto_us // SECOND_US, END - 1)
        if last < first:
            return 0
        return self._count_hourly(first, last) if self._hourly else self._count_fixed(first, last)

    def _place(self, second: int) -> tuple[int, int, int, int]:
        """Return the plain stretch of the segment an instant is in, and remember it: (low, high, offset, segment).

        In a plain stretch the wall times that match are the ticks.  `low` is past `second` where that is not so: for
        fixed times at a jump, and in a fold.
        """
        line = self._line
        segment = line.segment(second)
        offset, low = line.offsets[segment], line.starts[segment]
        if not self._hourly:
            low = max(low + 1, line.shown[segment] - offset)
        # One tuple, so that threads that share these ticks see all of it or none.
        here = self._here = (low, min(line.end(segment), END), offset, segment)
        return here

    # ------------------------------------------------------------ fixed times: each wall time fires once

    def _fixed_from(self, second: int) -> int | None:
        line = self._line
        at = line.segment(second)
        # What is left for this instant and later: wall times that had not been shown yet. Where the segment begins,
        # those of the gap before it are.
        wall = line.shown[at] if second == line.starts[at] else max(second + line.offsets[at], line.shown[at])
        found = self._wall_from(wall)
        return None if found is None else line.first_time(found)

    def _fixed_upto(self, second: int) -> int | None:
        line = self._line
        at = line.segment(second)
        found = self._wall_upto(max(second + line.offsets[at], line.shown[at] - 1))
        return None if found is None or found < line.shown[0] else line.first_time(found)

    def _count_fixed(self, first: int, last: int) -> int:
        line = self._line
        low, high = line.segment(first), line.segment(last)
        begins = line.shown[low] if first == line.starts[low] else max(first + line.offsets[low], line.shown[low])
        ticks = self._count_wall(begins, max(last + line.offsets[high], line.shown[high] - 1))
        for at in line.gaps[bisect_left(line.gaps, low) : bisect_right(line.gaps, high)]:
            if line.starts[at] >= first:  # several in one gap, and one just after it, are one tick
                ticks -= max(self._count_wall(line.shown[at], line.starts[at] + line.offsets[at]) - 1, 0)
        return ticks

    # ------------------------------------------------------------ hourly: whenever the wall clock shows it

    def _hourly_from(self, second: int) -> int | None:
        at = self._line.segment(second)
        wall = self._wall_from(second + self._line.offsets[at])
        return None if wall is None else self._hourly_of(wall, at)

    def _hourly_of(self, found: int, at: int) -> int | None:
        """Return the first tick from a segment on, in which `found` is the first wall time that matches."""
        line, wall = self._line, found
        while True:
            tick = wall - line.offsets[at]
            if tick < line.end(at):
                return tick
            at += 1
            begins, ended = line.starts[at] + line.offsets[at], line.starts[at] + line.offsets[at - 1]
            if wall < begins or self._count_wall(begins, ended - 1):  # it is in a gap, or others come again in a fold
                again = self._wall_from(begins)
                if again is None:
                    return None
                wall = again

    def _hourly_upto(self, second: int) -> int | None:
        line = self._line
        at = line.segment(second)
        wall = self._wall_upto(second + line.offsets[at])
        while wall is not None and at >= 0:
            if wall - line.offsets[at] >= line.starts[at]:
                return wall - line.offsets[at]
            begins = line.starts[at] + line.offsets[at]
            at -= 1
            ended = line.starts[at + 1] + line.offsets[at]
            if wall >= ended or self._count_wall(begins, ended - 1):
                wall = self._wall_upto(ended - 1)
        return None

    def _count_hourly(self, first: int, last: int) -> int:
        line = self._line
        ticks = 0
        for at in range(line.segment(first), line.segment(last) + 1):
            offset = line.offsets[at]
            ticks += self._count_wall(max(first, line.starts[at]) + offset, min(last, line.end(at) - 1) + offset)
        return ticks

    # ------------------------------------------------------------ wall times that match

    def _wall_from(self, wall: int) -> int | None:
        """Return the first matching wall time at or after."""
        day, time = divmod(wall, _DAY)
        times = self._times
        if time > times[-1]:
            day, time = day + 1, 0
        month = bisect_right(_FIRST_DAYS, day) - 1
        left = self._matching[_KIND[month]] >> day - _FIRST_DAYS[month]
        if left & 1:
            return day * _DAY + times[bisect_left(times, time)]
        if left:
            return (day + (left & -left).bit_length() - 1) * _DAY + times[0]
        found = self._first_day(month + 1)
        return None if found is None else found * _DAY + times[0]

    def _wall_upto(self, wall: int) -> int | None:
        """Return the last matching wall time at or before."""
        day, time = divmod(wall, _DAY)
        times = self._times
        if time < times[0]:
            day, time = day - 1, _DAY
        found = self._day_upto(day)
        if found is None:
            return None
        return found * _DAY + times[bisect_right(times, time) - 1 if found == day else -1]

    def _count_wall(self, first: int, last: int) -> int:
        """Return how many wall times match in [first, last]."""
        if last < first:
            return 0
        return (
            self._walls_before(last + 1)
            - self._walls_before(first)
            + len(self._times) * self._days_between(first // _DAY, (last + 1) // _DAY)
        )

    def _walls_before(self, wall: int) -> int:
        """Return how many times of a wall time's own day match before it."""
        day, time = divmod(wall, _DAY)
        month = bisect_right(_FIRST_DAYS, day) - 1
        matches = self._matching[_KIND[month]] >> day - _FIRST_DAYS[month] & 1
        return bisect_left(self._times, time) if matches else 0

    # ------------------------------------------------------------ days that match

    def _first_day(self, month: int) -> int | None:
        """Return the first day that matches, from a month of the table on."""
        matching = self._matching
        for at in range(month, _MONTHS):
            if days := matching[_KIND[at]]:
                return _FIRST_DAYS[at] + (days & -days).bit_length() - 1
        return None

    def _day_upto(self, day: int) -> int | None:
        """Return the last day that matches, at or before."""
        at = bisect_right(_FIRST_DAYS, day) - 1
        kept = (2 << day - _FIRST_DAYS[at]) - 1
        while at >= 0:
            if left := self._matching[_KIND[at]] & kept:
                return _FIRST_DAYS[at] + left.bit_length() - 1
            at, kept = at - 1, -1
        return None

    def _days_between(self, first: int, end: int) -> int:
        """Return how many days match in [first, end)."""
        low, high = bisect_right(_FIRST_DAYS, first) - 1, bisect_right(_FIRST_DAYS, end) - 1
        whole = sum(self._matching[_KIND[at]].bit_count() for at in range(low, high))
        return whole - self._days_before(low, first) + self._days_before(high, end)

    def _days_before(self, month: int, day: int) -> int:
        return (self._matching[_KIND[month]] & (1 << day - _FIRST_DAYS[month]) - 1).bit_count()


def _us(second: int | None) -> int | None:
    return None if second is None or second >= END else second * SECOND_US
