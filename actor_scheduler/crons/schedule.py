"""When a cron ticks: `Cron` by five fields in a time zone, `Every` by an interval from an anchor. Values, pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeAlias, final

from actor_scheduler.crons.fields import tidied
from actor_scheduler.crons.search import ticks_of
from actor_scheduler.crons.wall import END_US, zone_fingerprint, zone_of
from actor_scheduler.errors import InvalidCron
from actor_scheduler.limits import SECOND_US

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

__all__ = ["Cron", "Every", "Schedule", "Ticks", "schedule_from_plain", "zone_fingerprint"]

EVERY_US_MIN: Final = SECOND_US
EVERY_US_MAX: Final = 365 * 86_400 * SECOND_US

_UNITS: Final = {"hours": 3600 * SECOND_US, "minutes": 60 * SECOND_US, "seconds": SECOND_US}
_ROUNDING_US: Final = 0.01  # a year in seconds, as a float, is exact to 0.004 microseconds
_US: Final = timedelta(microseconds=1)


class Ticks(Protocol):
    """Instants in increasing order, in microseconds, up to the end of 2199."""

    def next_us(self, after_us: int) -> int | None:
        """Return the first tick strictly after; None when there is none up to the end of 2199."""

    def latest_us(self, at_us: int) -> int | None:
        """Return the last tick at or before; None when there is none since 1970, or since the anchor."""

    def count(self, after_us: int, upto_us: int) -> int:
        """Return how many ticks there are in (after_us, upto_us]. Costs days at most, not ticks."""


class _Value:
    """Refuses to be changed."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"{type(self).__name__} is a value and never changes; make another one"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)


@final
class Cron(_Value):
    """Five fields, `minute hour day-of-month month day-of-week`, on the wall clock of a time zone.

    `expr` is also one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly; `tz` is an IANA name or a
    ZoneInfo.  Two are equal when both texts are.  `crons.fields` says what the fields mean, `crons.wall` what happens
    where the clock changes.

    Raises InvalidCron, naming field and reason, for an expression that can't be read or never matches, and UnknownZone.
    """

    __slots__ = ("_ticks", "expr", "tz")

    expr: str
    tz: str

    def __init__(self, expr: str, /, *, tz: str | ZoneInfo = "UTC") -> None:
        text, zone = tidied(expr), zone_of(tz)
        object.__setattr__(self, "expr", text)
        object.__setattr__(self, "tz", zone.key)
        object.__setattr__(self, "_ticks", ticks_of(text, zone))

    def __repr__(self) -> str:
        """Read like the call."""
        return f"Cron({self.expr!r})" if self.tz == "UTC" else f"Cron({self.expr!r}, tz={self.tz!r})"

    def __eq__(self, other: object) -> bool:
        """Compare expression and zone."""
        return isinstance(other, Cron) and (self.expr, self.tz) == (other.expr, other.tz)

    def __hash__(self) -> int:
        """Hash expression and zone."""
        return hash((self.expr, self.tz))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be copied and pickled."""
        return schedule_from_plain, (self.to_plain(),)

    def ticks(self, anchor_us: int) -> Ticks:
        """Return its ticks; they do not depend on the anchor."""
        ticks: Ticks = self._ticks  # type: ignore[attr-defined]  # set in __init__ past __setattr__
        return ticks

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain values, to be stored."""
        return {"cron": self.expr, "tz": self.tz}


@final
class Every(_Value):
    """An interval, from one second to 365 days: `Every(timedelta(…))`, or one of `seconds`, `minutes`, `hours`.

    Ticks are at the anchor plus whole multiples of it, so they do not drift.  Raises InvalidCron for anything else, a
    fraction of a microsecond included.
    """

    __slots__ = ("every_us",)

    every_us: int

    def __init__(
        self,
        every: timedelta | None = None,
        /,
        *,
        seconds: float | None = None,
        minutes: float | None = None,
        hours: float | None = None,
    ) -> None:
        given = {"hours": hours, "minutes": minutes, "seconds": seconds}
        units = {unit: number for unit, number in given.items() if number is not None}
        if len(units) + (every is not None) != 1:
            msg = "an interval takes one of a timedelta, seconds, minutes or hours; for a sum write a timedelta"
            raise InvalidCron(msg)
        if every is not None:
            if not isinstance(every, timedelta):
                msg = f"an interval is a timedelta, or seconds=, minutes=, hours=, not {type(every).__name__}"
                raise InvalidCron(msg)
            every_us = every // _US
            if not EVERY_US_MIN <= every_us <= EVERY_US_MAX:
                raise InvalidCron(f"an interval is from 1 second to 365 days, not {every}")
        else:
            ((unit, number),) = units.items()
            every_us = _whole_us(unit, number)
        object.__setattr__(self, "every_us", every_us)

    def __repr__(self) -> str:
        """Read like the call."""
        for unit, unit_us in _UNITS.items():
            if self.every_us % unit_us == 0:
                return f"Every({unit}={self.every_us // unit_us})"
        return f"Every(seconds={self.every_us / SECOND_US!r})"

    def __eq__(self, other: object) -> bool:
        """Compare the interval."""
        return isinstance(other, Every) and self.every_us == other.every_us

    def __hash__(self) -> int:
        """Hash the interval."""
        return hash(self.every_us)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be copied and pickled."""
        return schedule_from_plain, (self.to_plain(),)

    def ticks(self, anchor_us: int) -> Ticks:
        """Return its ticks: the anchor and all that follow it."""
        return EveryTicks(anchor_us, self.every_us)

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain values, to be stored."""
        return {"every_us": self.every_us}


Schedule: TypeAlias = Cron | Every


class EveryTicks:
    """The instants anchor + k·every, k from 0, up to the end of 2199."""

    __slots__ = ("_anchor_us", "_every_us")

    def __init__(self, anchor_us: int, every_us: int) -> None:
        self._anchor_us = anchor_us
        self._every_us = every_us

    def next_us(self, after_us: int) -> int | None:
        """Return the first tick strictly after; None when there is none up to the end of 2199."""
        tick_us = self._anchor_us + self._upto(after_us) * self._every_us
        return tick_us if tick_us < END_US else None

    def latest_us(self, at_us: int) -> int | None:
        """Return the last tick at or before; None when there is none since the anchor."""
        ticks = self._upto(min(at_us, END_US - 1))
        return self._anchor_us + (ticks - 1) * self._every_us if ticks else None

    def count(self, after_us: int, upto_us: int) -> int:
        """Return how many ticks there are in (after_us, upto_us]."""
        return max(self._upto(min(upto_us, END_US - 1)) - self._upto(after_us), 0)

    def _upto(self, at_us: int) -> int:
        """Return how many ticks there are up to an instant, itself included."""
        return max((at_us - self._anchor_us) // self._every_us + 1, 0)


def schedule_from_plain(plain: object) -> Schedule:
    """Return the schedule that `to_plain` wrote. Raises InvalidCron; UnknownZone for a removed zone."""
    match plain:
        case {"cron": str(expr), "tz": str(tz), **rest} if not rest:
            return Cron(expr, tz=tz)
        case {"every_us": int(every_us), **rest} if not rest and EVERY_US_MIN <= every_us <= EVERY_US_MAX:
            return Every(timedelta(microseconds=every_us))
    raise InvalidCron(f"the stored schedule can't be read: {plain!r:.80}")


def _whole_us(unit: str, number: object) -> int:
    """Return a number of units in microseconds; a float may be off by its own rounding."""
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number:  # noqa: PLR0124 - NaN
        raise InvalidCron(f"{unit} takes a number, not {number!r:.40}")
    span_us = number * _UNITS[unit]
    if not EVERY_US_MIN <= span_us <= EVERY_US_MAX:
        shown = f", not {unit}={number}" if -EVERY_US_MAX < number < EVERY_US_MAX else ""  # a huge int has no repr
        raise InvalidCron(f"an interval is from 1 second to 365 days{shown}")
    if abs(span_us - round(span_us)) > _ROUNDING_US:
        raise InvalidCron(f"an interval is whole microseconds, not {unit}={number!r}")
    return round(span_us)
