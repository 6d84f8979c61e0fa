"""The wall clock of a time zone, as arithmetic on whole seconds; and the rule of what happens where it changes. Pure.

A zone's line is cut into segments, each with one offset from UTC.  Between two segments the wall clock jumps: forward,
and the times of a *gap* never come; or back, and the times of a *fold* come twice.  Every change of the offset counts,
whatever its cause and its size: summer time, Ramadan, half an hour on Lord Howe Island, a new standard time, the day
that Samoa left out.  (Debian's cron, whose rule this is, takes a jump of over three hours for a clock that was set.)

* Fixed times: each nominal time fires once.  One in a gap fires at the first instant after the gap; several in the same
  gap, and a regular one at that very instant, are one tick.  One in a fold fires the first time it comes.
* Hourly schedules follow real time: they fire whenever the wall clock shows a matching time, in a fold both times.
  Nothing of a gap comes, so nothing fires for it.

Zones come from `zoneinfo`: the system's database, else that of the package `tzdata`.  Lines run from 1970 to the end of
2199; a change of the database shows after a restart, and in `fingerprint`.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate, compress, count, islice
from operator import is_not
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo

from actor_scheduler.errors import InvalidCron, UnknownZone
from actor_scheduler.limits import SECOND_US

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_END: Final = datetime(2200, 1, 1, tzinfo=UTC)
END: Final = (_YEAR_END - _EPOCH) // timedelta(seconds=1)  # the first second that is not searched any more
END_US: Final = END * SECOND_US
ENDLESS: Final = 1 << 62  # later than any second
_FINGERPRINT_END: Final = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)

_DAY: Final = 86_400
_PROBE_DAYS: Final = 3  # no zone has ever changed its offset and changed it back within six days and a half
_PROBES: Final = tuple(datetime(1970, 1, 1) + timedelta(days=at) for at in range(0, END // _DAY + 1, _PROBE_DAYS))  # noqa: DTZ001 - wall times
_CYCLE: Final = (
    10_227 * _DAY
)  # 28 years: weekdays and leap years fall the same again, and so do the rules of summer time
_ZONE_CHARS_MAX: Final = 100


class Line(NamedTuple):
    """A zone's segments; number i runs from `starts[i]` (UTC) on, at `offsets[i]`, all in seconds."""

    # Invariant: `starts` and `offsets` are as long; `starts` increases from 0; neighbouring offsets differ.
    starts: tuple[int, ...]
    offsets: tuple[int, ...]
    shown: tuple[int, ...]  # wall times before this had been shown, or jumped over, when segment i began; never less
    gaps: tuple[int, ...]  # the segments that begin with a gap nothing had shown before

    def segment(self, second: int) -> int:
        """Return the number of the segment an instant is in; the first one for those before 1970."""
        return max(bisect_right(self.starts, second) - 1, 0)

    def end(self, segment: int) -> int:
        """Return the first instant after a segment."""
        return self.starts[segment + 1] if segment + 1 < len(self.starts) else ENDLESS

    def first_time(self, wall: int) -> int:
        """Return the instant a fixed wall time fires: the first time it comes, or the end of the gap it is in."""
        segment = max(bisect_right(self.shown, wall) - 1, 0)
        return max(wall - self.offsets[segment], self.starts[segment])


@lru_cache(maxsize=1024)
def line_of(zone: ZoneInfo) -> Line:
    """Return a zone's line. Takes 2 to 8 ms the first time; a zone read anew has a line of its own."""
    starts, offsets = [0], [_offset_at(zone, 0)]
    probed = list(map(zone.utcoffset, _PROBES))
    for at in compress(count(1), map(is_not, islice(probed, 1, None), probed)):  # of ten thousands, a few hundred
        before, now = _whole_seconds(probed[at - 1]), _whole_seconds(probed[at])
        wall = at * _PROBE_DAYS * _DAY
        low = wall - _PROBE_DAYS * _DAY - before - abs(now - before)  # the earlier probe may lie in a gap
        _cut(zone, starts, offsets, max(low, starts[-1]), wall - now)
    return line_through(starts, offsets)


def line_through(starts: Sequence[int], offsets: Sequence[int]) -> Line:
    """Return the line of these segments, however close they are."""
    ends = (start + offset for start, offset in zip(starts[1:], offsets, strict=False))
    shown = tuple(accumulate((offsets[0], *ends), max))
    gaps = tuple(at for at in range(1, len(starts)) if starts[at] + offsets[at] > shown[at])
    return Line(tuple(starts), tuple(offsets), shown, gaps)


def _cut(zone: ZoneInfo, starts: list[int], offsets: list[int], low: int, high: int) -> None:
    """Add the segments that begin in (low, high], where the offset is known to change."""
    last = _offset_at(zone, high)
    while offsets[-1] != last:
        begins = _same_as_before(zone, starts, low, high, offsets[-1]) or _change(zone, low, high, offsets[-1])
        starts.append(begins)
        offsets.append(_offset_at(zone, begins))
        low = begins


def _same_as_before(zone: ZoneInfo, starts: list[int], low: int, high: int, offset: int) -> int | None:
    """Return the change one cycle after an earlier one, if there is one: most are, and it spares the search."""
    at = bisect_right(starts, low - _CYCLE)
    if at == len(starts) or not low < (guess := starts[at] + _CYCLE) <= high:
        return None
    changes = _offset_at(zone, guess - 1) == offset != _offset_at(zone, guess)
    return guess if changes else None


def _change(zone: ZoneInfo, low: int, high: int, offset: int) -> int:
    """Return the first instant with another offset, in (low, high]."""
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_at(zone, middle) == offset:
            low = middle
        else:
            high = middle
    return high


def _offset_at(zone: ZoneInfo, second: int) -> int:
    return _whole_seconds(datetime.fromtimestamp(second, zone).utcoffset())


def _whole_seconds(offset: timedelta | None) -> int:
    assert offset is not None, "a ZoneInfo always knows its offset"
    return offset.days * _DAY + offset.seconds


# ------------------------------------------------------------------ zones by name


def zone_of(tz: object) -> ZoneInfo:
    """Return the zone of an IANA name, or of a ZoneInfo that has one. Raises InvalidCron; UnknownZone for a name."""
    if isinstance(tz, ZoneInfo):
        tz = tz.key  # the name is what is kept
    if not isinstance(tz, str):
        msg = f"tz takes the name of a time zone, such as 'Europe/Paris' or 'UTC', not {tz!r:.60}"
        raise InvalidCron(msg)
    if tz == "localtime" or tz.startswith(("posix/", "right/")):
        raise UnknownZone(f"the time zone {tz!r:.60} is another one on each machine; name one, such as 'Europe/Paris'")
    try:
        if not 0 < len(tz) <= _ZONE_CHARS_MAX:
            raise ValueError(tz)
        return ZoneInfo(tz)
    except Exception as error:  # no file, a folder, odd characters; and a damaged file raises what it likes
        msg = f"there is no time zone {tz!r:.60}: use a name of the IANA database, such as 'Europe/Paris'"
        raise UnknownZone(msg) from error


def zone_fingerprint(tz: str) -> str:
    """Return a short hash of a zone's offsets from 1970 to 2100: another one when its rules changed."""
    return _fingerprint(line_of(zone_of(tz)))


@lru_cache(maxsize=1024)
def _fingerprint(line: Line) -> str:
    cuts = [cut for cut in zip(line.starts, line.offsets, strict=True) if cut[0] < _FINGERPRINT_END]
    return sha256(repr(cuts).encode()).hexdigest()[:16]
