"""What operators ask: the shapes of it, how spans and moments in it are read, and what is put on record of it."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from actor_scheduler.crons.definition import NAME_CHARS_MAX
from actor_scheduler.crons.duration import duration_us
from actor_scheduler.errors import ActorSchedulerError, FunctionError, InvalidTime
from actor_scheduler.limits import EPOCH_SECONDS_MAX, PAGE_MAX, PATH_CHARS_MAX
from actor_scheduler.times import delay_us, to_datetime
from runtime.http.answers import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.http.routes import Visit

Limit: TypeAlias = Annotated[int, Field(ge=1, le=PAGE_MAX)]
Path: TypeAlias = Annotated[str, Field(max_length=PATH_CHARS_MAX)]  # of a function
Cursor: TypeAlias = Annotated[str, Field(min_length=1, max_length=2_000)]
Span: TypeAlias = str | int | float  # "1h30m", or seconds
Moment: TypeAlias = str | int | float  # ISO 8601 with an offset, or a number since 1970

_MS_MAX: Final = EPOCH_SECONDS_MAX * 1_000
_MILLISECOND: Final = 1_000  # microseconds


class Query(BaseModel):
    """A query string: its values are text, and mean what they are read as."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(BaseModel):
    """A JSON body: its values are what they are, and "1" is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Named(Body):
    """Something with a name: longer ones there are none of, and an answer would repeat it."""

    name: Annotated[str, Field(max_length=NAME_CHARS_MAX)]


# ------------------------------------------------------------------ spans and moments


def span(value: Span, what: str) -> timedelta:
    """Return a span of time: "1h30m", or seconds. Raises InvalidTime, InvalidArgs."""
    span_us = duration_us(value, what=what) if isinstance(value, str) else delay_us(value, what=what)
    return timedelta(microseconds=span_us)


def instant(value: Moment, what: str) -> datetime | float:
    """Return a moment as the scheduler takes it: ISO 8601 with an offset, or epoch seconds. Raises InvalidTime."""
    return _iso(value, what) if isinstance(value, str) else value


def instant_of_ms(value: Moment, what: str) -> datetime:
    """Return a moment: ISO 8601 with an offset, or epoch milliseconds. Raises InvalidTime.

    A number that can only be seconds is refused.
    """
    if isinstance(value, str):
        return _iso(value, what)
    if not 0 <= value < _MS_MAX:  # neither is NaN
        msg = f"{what} is ISO 8601, or epoch milliseconds from 1973 to 5138"
        raise InvalidTime(msg)
    if value < EPOCH_SECONDS_MAX:
        msg = f"{what}: the number can only be seconds; it is in epoch milliseconds: multiply by 1000"
        raise InvalidTime(msg)
    return to_datetime(round(value * _MILLISECOND))


def _iso(text: str, what: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        msg = f'{what} reads "2026-11-21T14:00:00Z", with Z or an offset, not {text!r:.60}'
        raise InvalidTime(msg) from None


# ------------------------------------------------------------------ on record


class Outcome:
    """What is to be put on record of a deed that went well."""

    result = "done"


@contextlib.contextmanager
def audited(visit: Visit, action: str, target: str) -> Iterator[Outcome]:
    """Put on record what is done in here, whether it goes well or not."""
    outcome = Outcome()
    try:
        yield outcome
    except (Problem, FunctionError) as error:
        visit.audit(action, target, f"refused: {error.code}")
        raise
    except ActorSchedulerError as error:
        visit.audit(action, target, f"refused: {type(error).__name__}")
        raise
    except BaseException as error:
        visit.audit(action, target, f"failed: {type(error).__name__}")
        raise
    visit.audit(action, target, outcome.result)


def no_such(what: str, name: Any) -> Problem:
    """Return the answer for a thing that is not there."""
    return Problem(404, "NOT_FOUND", f"there is no {what} {str(name)!r:.200}")
