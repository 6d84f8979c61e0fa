"""The time rules of scheduling: pure functions from what a caller may say to microseconds.

Inside, a moment is one `int`: microseconds since the Unix epoch, UTC.  `now_us` is always an argument.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from actor_scheduler.errors import InvalidTime
from actor_scheduler.limits import AHEAD_US_MAX, EPOCH_SECONDS_MAX, SECOND_US

Delay: TypeAlias = timedelta | float  # seconds
Instant: TypeAlias = datetime | float  # aware, or epoch seconds

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


def to_datetime(moment_us: int) -> datetime:
    """Return the aware UTC datetime of a moment."""
    return _EPOCH + timedelta(microseconds=moment_us)


def from_datetime(moment: datetime) -> int:
    """Return the moment of an aware datetime, exact to the microsecond."""
    return (moment - _EPOCH) // _US


def delay_us(delay: Delay, *, what: str = "delay") -> int:
    """Return a delay in microseconds: a `timedelta`, or seconds as int or float.

    Raises InvalidTime for a bool, NaN, infinity, a negative delay, or one over five years.
    """
    if type(delay) is int:  # the usual case first
        span_us = delay * SECOND_US
    elif isinstance(delay, timedelta):
        span_us = delay // _US
    elif isinstance(delay, bool) or not isinstance(delay, int | float):
        msg = f"{what} must be a timedelta or a number of seconds, not {type(delay).__name__}"
        raise InvalidTime(msg)
    elif not math.isfinite(delay):
        msg = f"{what} must be finite, not {delay}"
        raise InvalidTime(msg)
    else:
        span_us = round(delay * SECOND_US)
    if span_us < 0:
        msg = f"{what} must not be negative (got {delay}); to run at once use 0 or run_now"
        raise InvalidTime(msg)
    if span_us > AHEAD_US_MAX:
        msg = f"{what} is over five years ({delay}); delays are in seconds, not milliseconds"
        raise InvalidTime(msg)
    return span_us


def instant_us(when: Instant, now_us: int) -> int:
    """Return an instant in microseconds: an aware `datetime`, or epoch seconds. A past instant is kept as asked.

    Raises InvalidTime for a naive datetime, a bool, NaN, infinity, a negative number, a number that can only be
    milliseconds, or an instant over five years away.
    """
    if isinstance(when, datetime):
        if when.utcoffset() is None:
            msg = f"{when!r} has no time zone: use datetime.now(UTC), or .replace(tzinfo=ZoneInfo(…))"
            raise InvalidTime(msg)
        at_us = from_datetime(when)
    elif isinstance(when, bool) or not isinstance(when, int | float):
        msg = f"an instant must be an aware datetime or epoch seconds, not {type(when).__name__}"
        raise InvalidTime(msg)
    elif not math.isfinite(when) or when < 0:
        msg = f"epoch seconds must be finite and not negative, not {when}"
        raise InvalidTime(msg)
    elif when >= EPOCH_SECONDS_MAX:
        msg = f"{when} can only be milliseconds; an instant is in epoch seconds: divide by 1000"
        raise InvalidTime(msg)
    else:
        at_us = round(when * SECOND_US)
    if at_us - now_us > AHEAD_US_MAX:
        msg = f"{when} is over five years away"
        raise InvalidTime(msg)
    return at_us
