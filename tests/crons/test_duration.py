"""Spans of time as a definition writes them: V21's "48h" and its kin, and all that is refused."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.crons.duration import duration_us
from actor_scheduler.errors import InvalidArgs
from actor_scheduler.limits import DURATION_US_MAX, SECOND_US

LAWS = settings(max_examples=200, deadline=None, derandomize=True, database=None)
TEN_YEARS = timedelta(microseconds=DURATION_US_MAX)
US = timedelta(microseconds=1)
parts = st.none() | st.integers(0, 2_000)


class Unspeakable:
    """A value that can't be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


@LAWS
@given(days=parts, hours=parts, minutes=parts, seconds=parts)
def test_text_is_the_sum_of_its_parts(
    days: int | None, hours: int | None, minutes: int | None, seconds: int | None
) -> None:
    """Days, hours, minutes and seconds, each there or not: as much as the timedelta of the same parts."""
    given = {"d": days, "h": hours, "m": minutes, "s": seconds}
    text = "".join(f"{number}{unit}" for unit, number in given.items() if number is not None)
    span = timedelta(days=days or 0, hours=hours or 0, minutes=minutes or 0, seconds=seconds or 0)
    if span:
        assert duration_us(text) == duration_us(span) == duration_us(span.total_seconds()) == span // US
    else:
        with pytest.raises(InvalidArgs):
            duration_us(text)


@LAWS
@given(span=st.timedeltas(min_value=US, max_value=TEN_YEARS))
def test_a_timedelta_is_exact(span: timedelta) -> None:
    """A timedelta is taken to the microsecond."""
    assert duration_us(span) * US == span


@LAWS
@given(
    value=st.text(max_size=12)
    | st.text("0123456789dhms", max_size=12)
    | st.floats()
    | st.integers()
    | st.timedeltas()
    | st.booleans()
    | st.binary()
)
def test_anything_is_a_span_within_bounds_or_refused(value: Any) -> None:
    """Whatever is given, the answer is a span from a microsecond to ten years, or InvalidArgs."""
    try:
        span_us = duration_us(value)
    except InvalidArgs:
        return
    assert type(span_us) is int
    assert 0 < span_us <= DURATION_US_MAX


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("48h", 48 * 3600),
        ("90m", 5400),
        ("7d", 7 * 86_400),
        ("30s", 30),
        ("1h30m", 5400),
        ("1d2h3m4s", 93_784),
        ("007s", 7),
        ("0h1s", 1),
        ("3660d", 3660 * 86_400),
        (timedelta(hours=48), 48 * 3600),
        (1, 1),
        (0.5, 0.5),
        (1.001, 1.001),  # times a million it is a little less than a whole number of microseconds
        (0.000001, 0.000001),
    ],
)
def test_what_is_taken(value: Any, seconds: float) -> None:
    """The forms the docs show."""
    assert duration_us(value) == round(seconds * SECOND_US)


def test_none_means_no_bound() -> None:
    """None is passed on."""
    assert duration_us(None) is None


@pytest.mark.parametrize(
    "value",
    ["", "h", "48", "48 h", " 48h", "48h\n", "48H", "1.5h", "-1h", "+1h", "1m1h", "1h1h", "1w", "2ms", "١h", "1_0h",
     "9999999999s", "1" * 5_000 + "s", "1" * 5_000 + "d", Unspeakable(), True, False, b"48h", [48], {"hours": 1},
     Decimal(1), 1j, object(), timedelta],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_span_is_refused_with_examples(value: Any) -> None:
    """What can't be read is answered with forms that can, and the name of the option."""
    with pytest.raises(InvalidArgs, match='^max_catch_up_age reads "48h", "7d"') as refused:
        duration_us(value, what="max_catch_up_age")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "value",
    ["0s", "0d0h0m0s", "3661d", "999999999d", timedelta(0), -US, TEN_YEARS + US, timedelta.max, timedelta.min, 0, -1,
     0.0, -0.5, 1e-9, 10 * 366 * 86_400 + 1, 1e308, 1.7e308, 10**400, -(10**400), 10**5_000,
     float("nan"), float("inf"), float("-inf")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_span_out_of_bounds_is_refused(value: Any) -> None:
    """Nothing, less than nothing and more than ten years; a number of any size gives no other error."""
    with pytest.raises(InvalidArgs, match="^duration must be more than nothing and at most ten years$"):
        duration_us(value)
