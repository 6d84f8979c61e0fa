"""The rule of crons, applied naively: read the wall clock of `zoneinfo` at every minute, and match it field by field.

It shares no code with `actor_scheduler.crons`: it is what that is held against.  Whole minutes only, so not for zones
whose offset has seconds (none has, since 1972).
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

MINUTE_US = 60_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = datetime(1970, 1, 1)

# Where a clock that changes may trip: in gaps and folds at any hour, at their edges, and far from them.
EXPRESSIONS = (
    "* * * * *", "*/5 * * * *", "0 * * * *", "30 * * * *", "0 */2 * * *", "30 */3 * * *", "17 */7 * * *",
    "0 0-23/2 * * *",
    "30 2 * * *", "*/15 2 * * *", "* 2 * * *", "0 2 * * *", "0 3 * * *", "59 1 * * *", "15 1 * * *", "*/20 1-3 * * *",
    "0 0 * * *", "30 0 * * *", "0,30 0-4 * * *", "45 23 * * *", "*/10 0,23 * * *", "0 12 * * *",
    "30 2 * * SUN", "0 9 * * MON-FRI", "30 2 L * *", "0 1 13 * FRI", "30 1 * * MON#1", "45 1 * * L0", "15 2 */2 * 0,6",
)  # fmt: skip

_NAMES = {
    name: at for names in ("sun mon tue wed thu fri sat", ". jan feb mar apr may jun jul aug sep oct nov dec")
    for at, name in enumerate(names.split())
}  # fmt: skip
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


class Walls(NamedTuple):
    """Minutes of UTC one after the other, and what the wall clock shows at each, both counted from 1970."""

    first: int
    shown: tuple[int, ...]
    before: int  # what the wall clock had shown before the first of them, plus one


def number(text: str) -> int:
    return _NAMES[text] if text in _NAMES else int(text)


def values(text: str, low: int, high: int) -> set[int]:
    """Read one element without L and #."""
    span, _, step = text.partition("/")
    if span == "*":
        first, last = low, high
    elif "-" in span:
        first, last = (number(bound) for bound in span.split("-"))
        last = 7 if high == 6 and last == 0 else last
    else:
        first = number(span)
        last = high if step else first
    return {value % 7 if high == 6 else value for value in range(first, last + 1, int(step or 1))}


class Naive:
    """One expression, matched as its definition reads."""

    def __init__(self, expr: str) -> None:
        self.expr = expr
        self.texts = expr.lower().replace("?", "*").split()
        self.minutes, self.hours, _, self.months, _ = (
            set().union(*(values(part, low, high) for part in text.split(",") if "#" not in part and "l" not in part))
            if at in (0, 1) else
            set().union(*(values(part, low, high) for part in text.split(","))) if at == 3 else set()
            for at, (text, (low, high)) in enumerate(zip(self.texts, _BOUNDS, strict=True))
        )  # fmt: skip
        self.times = {hour * 60 + minute for hour in self.hours for minute in self.minutes}
        either = not any(self.texts[at].startswith("*") for at in (2, 4))
        self.join = any if either else all
        self.hourly = len(self.hours) == 24 or any(
            part.startswith(("*", "0/", "0-23")) for part in self.texts[1].split(",")
        )

    @lru_cache(maxsize=4096)  # noqa: B019 - a test's own
    def day_matches(self, day: int) -> bool:
        moment = date(1970, 1, 1) + timedelta(days=day)
        length = monthrange(moment.year, moment.month)[1]
        weekday = moment.isoweekday() % 7
        by_date = any(
            moment.day == length if part == "l" else moment.day in values(part, 1, 31)
            for part in self.texts[2].split(",")
        )
        by_weekday = False
        for part in self.texts[4].split(","):
            name, _, nth = part.partition("#")
            if nth:
                by_weekday |= weekday == number(name) % 7 and (moment.day - 1) // 7 + 1 == int(nth)
            elif name[0] == "l":
                by_weekday |= weekday == int(name[1:]) % 7 and moment.day + 7 > length
            else:
                by_weekday |= weekday in values(name, 0, 6)
        return moment.month in self.months and self.join((by_date, by_weekday))

    def matches(self, shown: int) -> bool:
        """Whether a minute of the wall clock matches."""
        return shown % 1440 in self.times and self.day_matches(shown // 1440)

    def ticks(self, walls: Walls) -> list[int]:
        """Return the minutes of UTC at which it fires."""
        if self.hourly:
            return [walls.first + at for at, shown in enumerate(walls.shown) if self.matches(shown)]
        found = []
        come = walls.before  # wall times before this have come, or were jumped over
        for at, shown in enumerate(walls.shown):
            if shown < come:
                continue  # it came before: a fold
            if self.matches(shown) or any(self.matches(missed) for missed in range(come, shown)):  # the latter in a gap
                found.append(walls.first + at)
            come = shown + 1
        return found


@lru_cache(maxsize=512)
def naive(expr: str) -> Naive:
    return Naive(expr)


def shown_at(zone: ZoneInfo, minute: int) -> int:
    """Return the minute the wall clock shows at a minute of UTC."""
    wall = (EPOCH + timedelta(minutes=minute)).astimezone(zone).replace(tzinfo=None)
    return (wall - NAIVE_EPOCH) // timedelta(minutes=1)


def walls_of(zone: ZoneInfo, first: int, last: int) -> Walls:
    """Read the wall clock at every minute of UTC from `first` to `last`."""
    before = max(shown_at(zone, minute) for minute in range(first - 28 * 60, first))
    return Walls(first, tuple(shown_at(zone, minute) for minute in range(first, last + 1)), before + 1)


def changes(zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[int]:
    """Yield the minutes of UTC near which the offset changes: found by looking every six hours, up to six too late."""
    before = begin.astimezone(zone).utcoffset()
    moment = begin
    while moment < end:
        moment += timedelta(hours=6)
        offset = moment.astimezone(zone).utcoffset()
        if offset != before:
            yield (moment - EPOCH) // timedelta(minutes=1)
        before = offset


def differences(ours: object, expr: str, walls: Walls) -> Iterable[str]:
    """Yield what `ours` says otherwise than the scan: forwards, backwards and in number."""
    expected = [minute * MINUTE_US for minute in naive(expr).ticks(walls)]
    begin, end = walls.first * MINUTE_US - 1, (walls.first + len(walls.shown) - 1) * MINUTE_US
    forwards, at = [], begin
    while (at := ours.next_us(at)) is not None and at <= end and len(forwards) <= len(expected):
        forwards.append(at)
    if forwards != expected:
        yield f"next: {shown(set(forwards) ^ set(expected))}"
    if ours.count(begin, end) != len(expected):
        yield f"count: {ours.count(begin, end)}, not {len(expected)}"
    backwards, at = [], end
    while (at := ours.latest_us(at)) is not None and at > begin and len(backwards) <= len(expected):
        backwards.append(at)
        at -= 1
    if backwards[::-1] != expected:
        yield f"latest: {shown(set(backwards) ^ set(expected))}"
    middle = expected[len(expected) // 2] if expected else (begin + end) // 2
    if ours.count(begin, middle) + ours.count(middle, end) != len(expected):
        yield f"count is not a sum at {shown([middle])}"


def shown(moments: Iterable[int]) -> str:
    return ", ".join(f"{EPOCH + timedelta(microseconds=moment):%Y-%m-%d %H:%M}" for moment in sorted(moments)[:5])
