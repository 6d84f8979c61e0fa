"""How a span of time is written in a cron's definition: "48h", "1h30m", a timedelta, or seconds. Pure."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, overload

from actor_scheduler.errors import InvalidArgs
from actor_scheduler.limits import DURATION_US_MAX, SECOND_US

_WRITTEN: Final = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_UNITS_US: Final = (86_400 * SECOND_US, 3600 * SECOND_US, 60 * SECOND_US, SECOND_US)  # of the groups
_US: Final = timedelta(microseconds=1)


@overload
def duration_us(value: None, *, what: str = "duration") -> None: ...
@overload
def duration_us(value: str | timedelta | float, *, what: str = "duration") -> int: ...
def duration_us(value: object, *, what: str = "duration") -> int | None:
    """Return a span of time in microseconds; None for None, which means no bound.

    Text has days, hours, minutes and seconds in this order, whole numbers, each at most once: "7d", "48h", "1h30m",
    "30s".  A number is in seconds.  Raises InvalidArgs for anything else, a bool, NaN, nothing at all, a negative span,
    or one over ten years.
    """
    if value is None:
        return None
    span_us = _span_us(value)
    if span_us is None:
        given = f"{value!r:.40}" if isinstance(value, str) else type(value).__name__
        msg = f'{what} reads "48h", "7d", "90m", "30s" or "1h30m", or is a timedelta or seconds, not {given}'
        raise InvalidArgs(msg)
    if not 0 < span_us <= DURATION_US_MAX:
        msg = f"{what} must be more than nothing and at most ten years"
        raise InvalidArgs(msg)
    return span_us


def _span_us(value: object) -> int | None:
    if isinstance(value, timedelta):
        return value // _US
    if isinstance(value, str):
        found = _WRITTEN.fullmatch(value)
        if found is None or not value:
            return None
        return sum(int(number or 0) * unit_us for number, unit_us in zip(found.groups(), _UNITS_US, strict=True))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(value * SECOND_US) if abs(value) <= DURATION_US_MAX else DURATION_US_MAX + 1  # NaN, too, is not within
