"""The time rules of scheduling: pure functions from what a caller may say to microseconds.

Inside, a moment is one `int`: microseconds since the Unix epoch, UTC.  `now_us` is always an argument.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from actor_scheduler.errors import InvalidTime
from actor_scheduler.limits import AHEAD_US_MAX, EPOCH_SECONDS_MAX, SECOND_US

Delay: TypeAlias = timedelta | float  # seconds
Instant: TypeAlias = datetime | float  # aware, or epoch seconds


class After(NamedTuple):
    """A moment as a delay from acceptance."""

    delay: Delay


class At(NamedTuple):
    """A moment as an instant."""

    when: Instant


Due: TypeAlias = After | At
NOW: Final = After(0)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


_EARLIEST_US: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _US


def to_datetime(moment_us: int) -> datetime:
    """Return the aware UTC datetime of a moment."""
    return _EPOCH + timedelta(microseconds=moment_us)


def to_iso(moment_us: int) -> str:
    """Return a moment as text: 2026-11-21T15:00:00Z, with a fraction where it has one."""
    return to_datetime(moment_us).isoformat().replace("+00:00", "Z")


def from_datetime(moment: datetime) -> int:
    """Return the moment of an aware datetime, exact to the microsecond."""
    return (moment - _EPOCH) // _US


def delay_us(delay: Delay, *, what: str = "delay") -> int:
    """Return a delay in microseconds: a `timedelta`, or seconds as int or float.

    Raises InvalidTime for a bool, NaN, infinity, a negative delay, or one over five years.
    """
    if isinstance(delay, timedelta):
        span_us, negative = delay // _US, delay < timedelta(0)
    else:
        _check_number(delay, f"{what} must be a timedelta or a number of seconds")
        if delay > AHEAD_US_MAX:
            raise InvalidTime(f"{what} is over five years; delays are in seconds, not milliseconds")
        span_us, negative = round(delay * SECOND_US), delay < 0
    if negative:
        hint = "; to run at once use 0 or run_now" if what == "delay" else ""
        msg = f"{what} must not be negative{hint}"
        raise InvalidTime(msg)
    if span_us > AHEAD_US_MAX:
        msg = f"{what} is over five years ({delay}); delays are in seconds, not milliseconds"
        raise InvalidTime(msg)
    return span_us


def timeout_us(timeout: Delay) -> int:
    """Return a limit on time in microseconds. Raises InvalidTime as `delay_us` does, and for no time at all."""
    span_us = delay_us(timeout, what="timeout")
    if span_us == 0:
        msg = "timeout must be more than nothing"
        raise InvalidTime(msg)
    return span_us


def instant_us(when: Instant, now_us: int) -> int:
    """Return an instant in microseconds: an aware `datetime`, or epoch seconds. A past instant is kept as asked.

    Raises InvalidTime for a naive datetime, one before the year 1 in UTC, a bool, NaN, infinity, a negative number, a
    number that can only be milliseconds, or an instant over five years away.
    """
    if isinstance(when, datetime):
        if when.utcoffset() is None:
            msg = f"{when!r} has no time zone: use datetime.now(UTC), or .replace(tzinfo=ZoneInfo(…))"
            raise InvalidTime(msg)
        at_us = from_datetime(when)
    else:
        _check_number(when, "an instant must be an aware datetime or epoch seconds")
        if when < 0:
            msg = "epoch seconds must not be negative"
            raise InvalidTime(msg)
        if when >= EPOCH_SECONDS_MAX:
            msg = "the number can only be milliseconds; an instant is in epoch seconds: divide by 1000"
            raise InvalidTime(msg)
        at_us = round(when * SECOND_US)
    if at_us - now_us > AHEAD_US_MAX:
        msg = f"{when} is over five years away"
        raise InvalidTime(msg)
    if at_us < _EARLIEST_US:
        msg = f"{when!r} is before the year 1 in UTC"
        raise InvalidTime(msg)
    return at_us


def _check_number(value: object, rule: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{rule}, not {type(value).__name__}"
        raise InvalidTime(msg)
    if isinstance(value, float) and not math.isfinite(value):
        msg = f"{rule}, not {value}"
        raise InvalidTime(msg)
