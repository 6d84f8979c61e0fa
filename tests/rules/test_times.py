"""The time rules, row by row: what a caller may say, and the microseconds it means."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.errors import InvalidArgs, InvalidTime
from actor_scheduler.limits import AHEAD_US_MAX
from actor_scheduler.times import delay_us, from_datetime, instant_us, to_datetime

LAWS = settings(max_examples=200, deadline=None, derandomize=True, database=None)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_US = 1_767_225_600_000_000
FIVE_YEARS = timedelta(microseconds=AHEAD_US_MAX)
US = timedelta(microseconds=1)
PARIS = ZoneInfo("Europe/Paris")
offsets = st.timedeltas(min_value=timedelta(hours=-23, minutes=-59), max_value=timedelta(hours=23, minutes=59))


class NoOffset(tzinfo):
    """A time zone that does not know its offset: such a datetime is naive, whatever it carries."""

    def utcoffset(self, _: datetime | None, /) -> timedelta | None:
        return None


# ------------------------------------------------------------------ datetimes are exact


@LAWS
@given(moment=st.datetimes(timezones=offsets.map(timezone)))
def test_a_datetime_comes_back_as_the_same_instant_to_the_microsecond(moment: datetime) -> None:
    """to_datetime undoes from_datetime, in any zone, wherever the instant itself has a UTC datetime."""
    moment_us = from_datetime(moment)
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:  # just before year 1 or after 9999 in UTC: it has no datetime there
        return
    assert to_datetime(moment_us) == utc
    assert to_datetime(moment_us).tzinfo is UTC


@LAWS
@given(moment_us=st.integers(min_value=-62_135_596_800_000_000, max_value=253_402_300_799_999_999))
def test_a_moment_comes_back_from_its_datetime(moment_us: int) -> None:
    """from_datetime undoes to_datetime over the whole range of datetimes: no float is on the way."""
    assert from_datetime(to_datetime(moment_us)) == moment_us


@pytest.mark.parametrize(
    ("moment", "moment_us"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), -1),
        (NOW + US, NOW_US + 1),
        (datetime(2026, 1, 1, 1, tzinfo=PARIS), NOW_US),
        (datetime(2026, 10, 25, 2, 30, tzinfo=PARIS), 1_792_888_200_000_000),  # the first of the two
        (datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=1), 1_792_891_800_000_000),  # an hour later
    ],
)
def test_known_instants(moment: datetime, moment_us: int) -> None:
    """Before the epoch, in a zone, and on either side of the autumn fold, an instant is what its zone says."""
    assert from_datetime(moment) == moment_us
    assert instant_us(moment, NOW_US) == moment_us


# ------------------------------------------------------------------ delays


@pytest.mark.parametrize(
    ("delay", "span_us"),
    [
        (0, 0), (0.0, 0), (-0.0, 0), (1, 1_000_000), (30, 30_000_000), (1.5, 1_500_000), (0.000001, 1), (1e-9, 0),
        (timedelta(0), 0), (US, 1), (timedelta(days=1), 86_400_000_000), (FIVE_YEARS, AHEAD_US_MAX),
        (AHEAD_US_MAX // 1_000_000, AHEAD_US_MAX), (AHEAD_US_MAX / 1_000_000, AHEAD_US_MAX),
    ],
)  # fmt: skip
def test_a_delay_is_a_timedelta_or_seconds(delay: timedelta | float, span_us: int) -> None:
    """Ints and floats are seconds, a timedelta is itself, and exactly five years is still allowed."""
    assert delay_us(delay) == span_us


@LAWS
@given(span=st.timedeltas(min_value=timedelta(0), max_value=FIVE_YEARS))
def test_a_timedelta_within_five_years_is_exact(span: timedelta) -> None:
    """No microsecond of a timedelta is lost."""
    assert timedelta(microseconds=delay_us(span)) == span


@pytest.mark.parametrize(
    ("delay", "hint"),
    [
        (True, "bool"), (False, "bool"), (None, "NoneType"), ("30", "str"), (b"1", "bytes"), (Decimal(1), "Decimal"),
        (Fraction(1, 2), "Fraction"), (NOW, "datetime"), (1j, "complex"), ([], "list"),
        (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"),
        (-1, "negative"), (-0.5, "negative"), (-US, "negative"), (timedelta.min, "negative"), (-(10**400), "negative"),
        (timedelta.max, "five years"), (FIVE_YEARS + US, "five years"), (AHEAD_US_MAX // 1_000_000 + 1, "five years"),
        (1e300, "five years"), (10**400, "five years"), (1_767_225_600_000, "milliseconds"),
    ],
)  # fmt: skip
def test_what_is_no_delay_is_refused_with_the_reason(delay: object, hint: str) -> None:
    """Bool, NaN, infinity, negative, over five years, and everything that is no number raise InvalidTime saying so."""
    with pytest.raises(InvalidTime, match=hint):
        delay_us(delay)  # type: ignore[arg-type]


def test_the_refusal_names_the_parameter() -> None:
    """Other spans than a delay go by the same rules, under their own name."""
    with pytest.raises(InvalidTime, match=r"^grace must not be negative"):
        delay_us(-1, what="grace")


# ------------------------------------------------------------------ instants


@pytest.mark.parametrize(
    ("when", "at_us"),
    [
        (NOW, NOW_US), (NOW.astimezone(PARIS), NOW_US), (1_767_225_600, NOW_US), (1_767_225_600.25, NOW_US + 250_000),
        (0, 0), (0.0, 0), (datetime(1960, 1, 1, tzinfo=UTC), -315_619_200_000_000),
        (NOW + FIVE_YEARS, NOW_US + AHEAD_US_MAX), (1_767_225_600 + AHEAD_US_MAX // 1_000_000, NOW_US + AHEAD_US_MAX),
    ],
)  # fmt: skip
def test_an_instant_is_an_aware_datetime_or_epoch_seconds(when: datetime | float, at_us: int) -> None:
    """A past instant is kept as asked, and exactly five years ahead is still allowed."""
    assert instant_us(when, NOW_US) == at_us


@pytest.mark.parametrize(
    ("when", "hint"),
    [
        (datetime(2026, 1, 1), "time zone"), (datetime(2026, 1, 1, tzinfo=NoOffset()), "time zone"),
        (True, "bool"), (None, "NoneType"), ("2026-01-01", "str"), (date(2026, 1, 1), "date"),
        (timedelta(1), "timedelta"), (Decimal(1), "Decimal"),
        (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (-1, "negative"), (-0.001, "negative"),
        (1_767_225_600_000, "milliseconds"), (1e11, "milliseconds"), (1e300, "milliseconds"),
        (NOW + FIVE_YEARS + US, "five years"), (datetime.max.replace(tzinfo=UTC), "five years"),
        (99_999_999_999, "five years"),
    ],
)  # fmt: skip
def test_what_is_no_instant_is_refused_with_the_reason(when: object, hint: str) -> None:
    """Naive, bool, NaN, infinity, negative, milliseconds and over five years raise InvalidTime saying so."""
    with pytest.raises(InvalidTime, match=hint):
        instant_us(when, NOW_US)  # type: ignore[arg-type]


@LAWS
@given(
    value=st.one_of(st.integers(min_value=-(10**300), max_value=10**300), st.floats(), st.timedeltas(), st.booleans()),
    now_us=st.integers(min_value=0, max_value=1 << 52),
)
def test_C11_any_number_is_a_span_and_an_instant_in_range_or_refused(value: timedelta | float, now_us: int) -> None:
    """Nothing but InvalidTime leaves the rules, and what they accept lies within five years."""
    try:
        assert 0 <= delay_us(value) <= AHEAD_US_MAX
    except InvalidTime as error:
        assert isinstance(error, InvalidArgs)
    try:
        at_us = instant_us(value, now_us)  # type: ignore[arg-type]
    except InvalidTime:
        return
    assert type(at_us) is int
    assert 0 <= at_us <= now_us + AHEAD_US_MAX


# ------------------------------------------------------------------ odd values


@pytest.mark.parametrize("digits", [400, 5000])
def test_an_integer_too_large_for_a_float_is_refused_like_any_other(digits: int) -> None:
    """An instant or a delay no float can hold raises InvalidTime, never OverflowError or a bare ValueError."""
    number = 10**digits
    for rule in (lambda: instant_us(number, NOW_US), lambda: delay_us(number)):
        try:
            rule()
        except InvalidTime:
            continue
        pytest.fail("accepted")


def test_a_negative_delay_below_half_a_microsecond_is_negative_too() -> None:
    """The sign of a delay is its own, not that of its rounded microseconds."""
    with pytest.raises(InvalidTime):
        delay_us(-1e-8)


def test_what_is_accepted_as_an_instant_can_be_shown_again() -> None:
    """An instant before year 1 in UTC is refused, or can be read back: a stored one would break every list."""
    earliest = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    try:
        at_us = instant_us(earliest, NOW_US)
    except InvalidTime:
        return
    assert to_datetime(at_us).year >= 1
