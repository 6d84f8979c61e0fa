"""What operators write for spans and moments: read as it was meant, or refused in words."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.errors import InvalidArgs, InvalidTime
from actor_scheduler.times import instant_us, to_datetime
from runtime.http.asked import instant, instant_of_ms, span
from runtime.http.plain import moment

LAWS = settings(max_examples=100, deadline=None, derandomize=True, database=None)
NOW_US = 1_767_225_600_000_000

zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(min_value=datetime(1974, 1, 1), max_value=datetime(2030, 1, 1), timezones=zones)


@LAWS
@given(moments)
def test_what_is_shown_can_be_said(when: datetime) -> None:
    """A moment of an answer, put into a request, is the same moment; in any zone, and in milliseconds."""
    for text in (moment(when), when.isoformat()):
        assert text is not None
        assert instant(text, "at") == instant_of_ms(text, "at") == when
    whole = when.replace(microsecond=when.microsecond // 1_000 * 1_000)
    ms = (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert instant_of_ms(ms, "at") == whole
    assert instant_us(instant(ms / 1_000, "at"), NOW_US) == pytest.approx(ms * 1_000, abs=1)


@LAWS
@given(st.one_of(st.integers(), st.floats(), st.text(max_size=30)))
def test_what_is_no_moment_is_refused_and_nothing_else_is_raised(value: Any) -> None:
    """Whatever the number, and whatever the text."""
    for read in (instant, instant_of_ms):
        try:
            read_value = read(value, "at")
            instant_us(read_value, NOW_US)
        except InvalidTime as error:
            assert str(error)


@pytest.mark.parametrize(
    "value", [0, -1, 1_700_000_000, 99_999_999_999, 1e14, 1e300, 10**400, math.nan, math.inf, -math.inf, "", "1700000000000"]
)  # fmt: skip
def test_what_can_not_be_milliseconds_is_refused(value: Any) -> None:
    """Seconds, above all."""
    with pytest.raises(InvalidTime, match="scheduled_at"):
        instant_of_ms(value, "scheduled_at")


def test_the_edges_of_milliseconds() -> None:
    """From March 1973 to the year 5138, as for seconds on the other side."""
    assert instant_of_ms(100_000_000_000, "at") == to_datetime(100_000_000_000_000)
    assert instant_of_ms(99_999_999_999_999, "at").year == 5138


@LAWS
@given(st.one_of(st.integers(), st.floats(), st.text(max_size=10), st.from_regex(r"\A[0-9]{1,3}[dhms]\Z")))
def test_a_span_is_read_or_refused(value: Any) -> None:
    """Never negative, and never more than may be waited for by what takes it."""
    try:
        assert span(value, "in") >= timedelta(0)
    except InvalidArgs as error:
        assert "in" in str(error)


@pytest.mark.parametrize(
    ("value", "seconds"), [("1h30m", 5_400), ("90s", 90), ("7d", 604_800), (0, 0), (1.5, 1.5), (60, 60)]
)  # fmt: skip
def test_spans(value: Any, seconds: float) -> None:
    """As in a cron's definition, or seconds."""
    assert span(value, "in") == timedelta(seconds=seconds)
