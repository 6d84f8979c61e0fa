"""What the five fields of a cron expression say: which times of the day, on which days. Pure.

croniter parses and expands the fields.  It also takes much that can't be kept as it reads: six and seven fields, `R`
(another schedule at each parse), ranges that run backwards, `5-5` as every value, `W` which its expansion drops.  So
each element is checked against the grammar below first, and whatever has no exact meaning here is refused.

An element is `*`, `*/n`, `a`, `a-b`, `a-b/n` or `a/n` (from a to the field's end); a list has commas.  `?` is `*` in
the two fields of days.  `L` is the last day of the month, `L5` the month's last Friday, `MON#2` its second Monday.
Sunday is 0, 7 or SUN; as the end of a range it is 7.

Day of month and day of week are joined as in Vixie cron: a day matches when both fields match, unless both are
restricted; then either is enough.  A field that begins with `*`, such as `*/2`, is not restricted.

A schedule is *hourly* when its hour field has an element over all hours (`*`, `*/n`, `0-23`, `0/n`) or lists all 24;
all others have *fixed* times.  The two differ where the clocks change: see `wall`.
"""

from __future__ import annotations

import re
from calendar import monthrange
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple

from croniter import CroniterError, croniter

from actor_scheduler.errors import InvalidCron

EXPR_CHARS_MAX: Final = 1_000  # every value of every field, listed, is under 500
LAST: Final = -1  # among days of a month, or as the number of a weekday in it

_DAYS: Final = {name: at for at, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_MONTHS: Final = {
    name: at
    for at, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_WRONG_CHARACTER: Final = re.compile(r"[^0-9A-Za-z*/,#?\- ]")
_ELEMENT: Final = re.compile(r"(?P<low>\*|[0-9a-z]+)(?:-(?P<high>[0-9a-z]+))?(?:/(?P<step>[0-9]+))?")
_NTH: Final = re.compile(r"(?P<day>[0-9a-z]+)#(?P<nth>[0-9]+)")
_LAST_WEEKDAY: Final = re.compile(r"l[0-7]")
_WEEKLY: Final = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28
_SECONDS: Final = tuple(range(0, 86_400, 60))  # so that equal times of all schedules are the same objects


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: dict[str, int]
    size: int  # of different values


_FIELDS: Final = (
    _Field("minute", 0, 59, {}, 60),
    _Field("hour", 0, 23, {}, 24),
    _Field("day of month", 1, 31, {}, 31),
    _Field("month", 1, 12, _MONTHS, 12),
    _Field("day of week", 0, 7, _DAYS, 7),
)
_MONTH_DAY, _WEEKDAY = _FIELDS[2], _FIELDS[4]


class Days(NamedTuple):
    """Which days match."""

    months: frozenset[int]
    month_days: frozenset[int]  # LAST among them: the last day of the month
    weekdays: frozenset[int]  # 0 is Sunday; every one of them
    nth: frozenset[tuple[int, int]]  # (weekday, number in the month from 1, or LAST)
    either: bool  # a day matches when it is one of `month_days`, or of `weekdays` and `nth`

    def in_month(self, length: int, first_weekday: int) -> int:
        """Return the days of a month of this length that match, `months` aside: bit 0 is the first one."""
        by_date, by_weekday = 0, 0
        for day in self.month_days:
            by_date |= 1 << (length if day == LAST else day) - 1
        for weekday in self.weekdays:
            by_weekday |= _WEEKLY << (weekday - first_weekday) % 7
        for weekday, number in self.nth:
            first = (weekday - first_weekday) % 7
            week = (length - 1 - first) // 7 if number == LAST else number - 1
            by_weekday |= 1 << first + 7 * week
        return (by_date | by_weekday if self.either else by_date & by_weekday) & (1 << length) - 1


class Fields(NamedTuple):
    """What an expression says, in plain values. Equal for expressions that differ in spelling only."""

    times: tuple[int, ...]  # of a matching day, in seconds from midnight, increasing
    days: Days
    hourly: bool


@lru_cache(maxsize=4096)
def fields_of(expr: str) -> Fields:
    """Return what an expression says. Raises InvalidCron, naming the field and the reason."""
    written = _five(expr)
    values = []
    for at, text in enumerate(written):
        try:
            values.append(_values(at, text))
        except ValueError as error:
            raise InvalidCron(f"cron {expr!r}, {_FIELDS[at].name}: {error}") from error
    minutes, hours, month_days, months, weekdays = values
    days = Days(
        months.plain, month_days.plain, weekdays.plain, weekdays.nth,
        either=not any(text[0] in "*?" for text in (written[2], written[4])),
    )  # fmt: skip
    if not _ever(days):
        raise InvalidCron(f"cron {expr!r} never matches: no such day exists")
    return Fields(_times(minutes.plain, hours.plain), days, _hourly(written[1], hours.plain))


class _Values(NamedTuple):
    """What one field says."""

    plain: frozenset[int]
    nth: frozenset[tuple[int, int]]


@lru_cache(maxsize=4096)  # many expressions are made of few fields, and croniter takes 0.1 ms for each
def _values(at: int, text: str) -> _Values:
    """Return what one field says. Raises ValueError with the reason."""
    field, elements = _FIELDS[at], text.split(",")
    _check(field, elements)
    try:
        # Beside a star, croniter takes 31 different entries for all days of the month, though L is one of them.
        expanded, numbers = croniter.expand(" ".join(text if at == other else "1" for other in range(len(_FIELDS))))
    except CroniterError as error:  # whatever a later release refuses
        raise ValueError(str(error)) from error
    given = range(field.low, field.low + field.size) if "*" in expanded[at] else expanded[at]
    plain = frozenset(LAST if value == "l" else value for value in given if value not in numbers)
    nth = frozenset((day, LAST if number == "l" else number) for day in numbers for number in numbers[day])
    return _Values(plain, nth)


@lru_cache(maxsize=4096)
def _times(minutes: frozenset[int], hours: frozenset[int]) -> tuple[int, ...]:
    return tuple(_SECONDS[hour * 60 + minute] for hour in sorted(hours) for minute in sorted(minutes))


def _hourly(text: str, hours: frozenset[int]) -> bool:
    """Return whether an element of the hour field goes over all hours, with a step or without, or all are listed."""
    for element in text.split(","):
        bounds, _, step = element.partition("/")
        low, _, high = bounds.partition("-")
        if low == "*" or (int(low) == 0 and (int(high) == 23 if high else step != "")):
            return True
    return len(hours) == 24


@lru_cache(maxsize=1024)
def _ever(days: Days) -> bool:
    """Return whether any day matches. Over the years, each month begins on each weekday in each of its lengths."""
    lengths = {length for month in days.months for length in (monthrange(2023, month)[1], monthrange(2024, month)[1])}
    return any(days.in_month(length, weekday) for length, weekday in product(lengths, range(7)))


def tidied(expr: object) -> str:
    """Return an expression stripped, with one space between its fields. Raises InvalidCron for what is no text."""
    if not isinstance(expr, str):
        msg = f"a cron expression is text such as '0 9 * * MON-FRI', not {type(expr).__name__}"
        raise InvalidCron(msg)
    if len(expr) > EXPR_CHARS_MAX:
        raise InvalidCron(f"a cron expression is at most {EXPR_CHARS_MAX} characters, not {len(expr)}")
    return re.sub(r"[ \t\r\n]+", " ", expr).strip(" ")


def _five(expr: str) -> list[str]:
    """Return the five fields in lower case, an alias resolved."""
    if expr.startswith("@"):
        if expr.lower() not in _ALIASES:
            raise InvalidCron(f"cron {expr!r} is not an alias; there are {', '.join(_ALIASES)}")
        return _ALIASES[expr.lower()].split()
    wrong = _WRONG_CHARACTER.search(expr)
    if wrong:
        raise InvalidCron(f"cron {expr!r}: the character {wrong.group()!r} has no meaning here")
    written = expr.lower().split()
    if len(written) != len(_FIELDS):
        msg = (
            f"cron {expr!r} has {len(written)} fields; it takes five: minute, hour, day of month, month, day of week"
            f"{' (no seconds, no years)' if len(written) > len(_FIELDS) else ''}"
        )
        raise InvalidCron(msg)
    return written


def _check(field: _Field, elements: list[str]) -> None:
    for element in elements:
        reason = _fault(field, element)
        if reason is None and len(elements) > 1 and element in ("*", "?"):
            reason = f"{element} is every value already and stands alone"
        if reason is not None:
            raise ValueError(reason)
    if field is _WEEKDAY and 0 < sum(map(_is_nth, elements)) < len(elements):
        reason = "plain days don't mix with # or L; make two crons of it"
        raise ValueError(reason)


def _is_nth(element: str) -> bool:
    return "#" in element or bool(_LAST_WEEKDAY.fullmatch(element))


def _fault(field: _Field, element: str) -> str | None:
    """Return what is wrong with one element of a field's list; None when its meaning is exact."""
    if element == "?" and field in (_MONTH_DAY, _WEEKDAY):
        return None
    if element == "l" and field is _MONTH_DAY:
        return None
    if field is _WEEKDAY and _is_nth(element):
        return _nth_fault(element)
    parts = _ELEMENT.fullmatch(element)
    if parts is None or (parts["low"] == "*" and parts["high"] is not None):
        return _unreadable(field, element)
    if parts["low"] != "*":
        low, high = _value(field, parts["low"]), _value(field, parts["high"] or parts["low"])
        if parts["high"] == "l" and field is _MONTH_DAY:
            high = field.high
        if low is None or high is None:
            return _unreadable(field, element)
        if parts["high"] is not None and (reason := _range_fault(field, element, low, high)):
            return reason
        if parts["high"] is None and parts["step"] is not None and field is _WEEKDAY:
            return f"{element} leaves open whether Sunday ends it; write {low}-6/{parts['step']}"
    step = parts["step"]
    return _step_fault(field, element, step) if step is not None else None


def _range_fault(field: _Field, element: str, low: int, high: int) -> str | None:
    bounds = element.partition("/")[0].upper()
    if low == high:
        return f"{bounds} is a range of one value; write {low}"
    if field is _WEEKDAY and high == 0:
        high = 7  # Sunday ends the week, too
        if low == high:
            return f"{bounds} is a range of one value; write 0"
    if low > high:
        end = field.low + field.size - 1
        head = f"{low}-{end}," if low < end else f"{low}," if low == end else ""
        return f"{bounds} runs backwards; write {head}{field.low}-{high}"
    return None


def _step_fault(field: _Field, element: str, step: str) -> str | None:
    if len(step) <= len(str(field.size)) + 2 and 1 <= int(step) <= field.size:
        return None
    if not step.strip("0"):
        return f"the step of {element.upper()} is 0; write a step from 1"
    first = field.low if element.startswith("*") else element.partition("-")[0].partition("/")[0].upper()
    return (
        f"a step of {step:.20} is larger than the field, which has {field.size} values; for the first value alone write"
        f" {first}, and for longer periods use the next field or an interval"
    )


def _nth_fault(element: str) -> str | None:
    if _LAST_WEEKDAY.fullmatch(element):
        return None
    parts = _NTH.fullmatch(element)
    if parts is None:
        return f"{element.upper()} can't be read; write one day and a number, such as MON#2"
    if _value(_WEEKDAY, parts["day"]) is None:
        return _unreadable(_WEEKDAY, parts["day"])
    if parts["nth"] not in ("1", "2", "3", "4", "5"):
        return f"{element.upper()} is not a week of the month; # takes 1 to 5"
    return None


def _value(field: _Field, text: str) -> int | None:
    """Return the value of a name or number; None when the field has no such value."""
    if text in field.names:
        return field.names[text]
    if not text.isdecimal() or len(text) > 4:
        return None
    value = int(text)
    return value if field.low <= value <= field.high else None


def _unreadable(field: _Field, element: str) -> str:
    shown = f"{element.upper():.40}"
    names = f" or {', '.join(field.names).upper()}" if field.names else ""
    hint = ""
    if re.fullmatch(r"[hr](\(.*\))?(/.*)?", element):
        hint = "; H and R (a hashed and a random time) are not taken: `jitter` spreads crons"
    elif re.fullmatch(r"[0-9]*w[0-9]*|lw", element):
        hint = "; W (the nearest weekday) is not taken"
    elif field is _WEEKDAY and re.fullmatch(r"[0-7]l|l[a-z]+|[a-z]{3}l", element):
        hint = "; the last Friday of a month is L5"
    elif field is _WEEKDAY and element == "l":
        hint = "; the last Saturday of a month is L6"
    return f"{shown!r} can't be read; values are {field.low}-{field.high}{names}{hint}"
