"""Schedules as values: what is taken, how it reads, how it is kept; and intervals, by arithmetic."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actor_scheduler import codec
from actor_scheduler.crons.schedule import EVERY_US_MAX, EVERY_US_MIN, Cron, Every, Schedule, schedule_from_plain
from actor_scheduler.crons.wall import END_US
from actor_scheduler.errors import InvalidCron, UnknownZone
from actor_scheduler.limits import SECOND_US
from tests.crons.test_search import crons

LAWS = settings(max_examples=40, deadline=None, derandomize=True, database=None)

spans = st.integers(EVERY_US_MIN, EVERY_US_MAX)
everies = spans.map(lambda span_us: Every(timedelta(microseconds=span_us)))
anchors = st.integers(0, END_US)
schedules = st.one_of(crons(), everies)


# ------------------------------------------------------------------ values


@LAWS
@given(schedule=schedules)
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    """Equal by value after being read from its repr, copied, pickled, and stored; and never another one's equal."""
    others = [
        eval(repr(schedule), {"Cron": Cron, "Every": Every}),
        copy.copy(schedule),
        copy.deepcopy(schedule),
        pickle.loads(pickle.dumps(schedule)),
        schedule_from_plain(codec.decode(codec.encode(schedule.to_plain()))),
    ]
    for other in others:
        assert other == schedule
        assert hash(other) == hash(schedule)
        assert repr(other) == repr(schedule)
        assert other.ticks(0).next_us(10**15) == schedule.ticks(0).next_us(10**15)
    assert schedule != repr(schedule)


@LAWS
@given(schedule=schedules)
def test_a_schedule_never_changes(schedule: Schedule) -> None:
    """Nothing of it can be set, added or taken away."""
    for name in ("expr", "tz", "every_us", "other"):
        with pytest.raises(AttributeError, match="never changes"):
            setattr(schedule, name, 1)
        with pytest.raises(AttributeError, match="never changes"):
            delattr(schedule, name)


def test_repr_reads_like_the_call() -> None:
    """Short where it can be."""
    assert repr(Cron("0 9 * * *")) == "Cron('0 9 * * *')"
    assert repr(Cron(" 0 9  * * mon ", tz="Europe/Paris")) == "Cron('0 9 * * mon', tz='Europe/Paris')"
    assert repr(Cron("@daily", tz=ZoneInfo("Asia/Tokyo"))) == "Cron('@daily', tz='Asia/Tokyo')"
    assert repr(Every(hours=2)) == "Every(hours=2)"
    assert repr(Every(seconds=90)) == "Every(seconds=90)"
    assert repr(Every(timedelta(minutes=15))) == "Every(minutes=15)"
    assert repr(Every(seconds=1.5)) == "Every(seconds=1.5)"


def test_equal_by_what_was_written() -> None:
    """Another spelling or zone is another schedule, even where the ticks are the same."""
    assert Cron("@daily") != Cron("0 0 * * *")
    assert Cron("0 9 * * *") != Cron("0 9 * * *", tz="Europe/London")
    assert Cron("0 9 * * *", tz="UTC") == Cron("0 9  * * *")
    assert Every(minutes=60) == Every(hours=1)
    assert Every(seconds=1) != Cron("* * * * *")
    assert len({Every(minutes=60), Every(hours=1), Cron("@daily"), Cron("@daily")}) == 2


def test_equal_crons_share_their_ticks() -> None:
    """A hundred thousand reminders at nine cost the memory of one."""
    assert Cron("0 9 * * *", tz="Europe/Paris").ticks(0) is Cron("0 9 * * *", tz="Europe/Paris").ticks(5)


@pytest.mark.parametrize(
    "plain",
    [
        None, 5, "0 9 * * *", {}, [], {"cron": "0 9 * * *"}, {"tz": "UTC"}, {"cron": 5, "tz": "UTC"},
        {"cron": "0 9 * * *", "tz": None}, {"cron": "0 9 * * *", "tz": "UTC", "more": 1}, {"cron": "0 9 * *", "tz": "UTC"},
        {"every_us": "60"}, {"every_us": 60.0}, {"every_us": True}, {"every_us": 0}, {"every_us": -1},
        {"every_us": EVERY_US_MIN - 1}, {"every_us": EVERY_US_MAX + 1}, {"every_us": 10**40}, {"every_us": 10**6, "tz": 1},
    ],
)  # fmt: skip
def test_damaged_rows_are_refused(plain: object) -> None:
    """A row may be damaged, or of another release."""
    with pytest.raises(InvalidCron):
        schedule_from_plain(plain)


def test_a_row_of_an_unknown_zone_says_so() -> None:
    """It is told apart from a damaged one: the zone may come back with the next tzdata."""
    with pytest.raises(UnknownZone, match="Mars/Olympus"):
        schedule_from_plain({"cron": "0 9 * * *", "tz": "Mars/Olympus"})


# ------------------------------------------------------------------ what an interval takes


@pytest.mark.parametrize(
    ("every", "every_us"),
    [
        (Every(seconds=1), SECOND_US), (Every(minutes=1), 60 * SECOND_US), (Every(hours=1), 3600 * SECOND_US),
        (Every(hours=24 * 365), EVERY_US_MAX), (Every(timedelta(days=365)), EVERY_US_MAX),
        (Every(minutes=1.5), 90 * SECOND_US), (Every(seconds=1.1), 1_100_000), (Every(hours=0.1), 360 * SECOND_US),
        (Every(seconds=1.000001), 1_000_001), (Every(timedelta(hours=1, microseconds=1)), 3600 * SECOND_US + 1),
        (Every(seconds=12_345_678.9), 12_345_678_900_000),
    ],
)  # fmt: skip
def test_intervals_that_are_taken(every: Every, every_us: int) -> None:
    """To the microsecond, whatever a float makes of it."""
    assert every.every_us == every_us


@pytest.mark.parametrize(
    ("args", "options", "reason"),
    [
        ((), {}, "takes one of"), ((), {"seconds": None}, "takes one of"),
        ((), {"hours": 1, "minutes": 30}, "timedelta"), ((timedelta(1),), {"hours": 1}, "takes one of"),
        ((60,), {}, "not int"), (("60",), {}, "not str"),
        ((), {"seconds": True}, "a number"), ((), {"seconds": "60"}, "a number"), ((), {"seconds": Decimal(60)}, "a number"),
        ((), {"seconds": math.nan}, "a number"), ((), {"minutes": math.inf}, "365 days"), ((), {"hours": -math.inf}, "1 second"),
        ((), {"seconds": 0}, "1 second to 365 days"), ((), {"seconds": 0.5}, "1 second"), ((), {"seconds": 0.999999}, "1 second"),
        ((), {"seconds": -60}, "1 second"), ((timedelta(seconds=-1),), {}, "1 second"), ((timedelta(0),), {}, "1 second"),
        ((timedelta.max,), {}, "365 days"), ((timedelta(days=365, microseconds=1),), {}, "365 days"),
        ((), {"hours": 24 * 365 + 1}, "365 days"), ((), {"seconds": 10**400}, "365 days"), ((), {"hours": -(10**9_999)}, "1 second"), ((), {"hours": 1e300}, "365 days"),
        ((), {"seconds": 1.0000005}, "whole microseconds"), ((), {"seconds": 1.23456789}, "whole microseconds"),
    ],
)  # fmt: skip
def test_intervals_that_are_refused(args: tuple[Any, ...], options: dict[str, Any], reason: str) -> None:
    """Each with what is wrong about it."""
    with pytest.raises(InvalidCron, match=reason) as refused:
        Every(*args, **options)
    assert len(str(refused.value)) < 200


# ------------------------------------------------------------------ the ticks of an interval


@LAWS
@given(every=everies, anchor_us=anchors, at_us=st.integers(-(10**16), 2 * END_US))
@example(every=Every(hours=1), anchor_us=0, at_us=END_US - 1)
@example(every=Every(hours=1), anchor_us=0, at_us=END_US)
@example(every=Every(hours=1), anchor_us=END_US, at_us=0)
def test_intervals_are_anchored(every: Every, anchor_us: int, at_us: int) -> None:
    """Each tick is the anchor plus a whole multiple: latest(t) <= t < next(t), one interval apart."""
    ticks = every.ticks(anchor_us)
    latest_us, next_us = ticks.latest_us(at_us), ticks.next_us(at_us)
    for tick_us in (latest_us, next_us):
        assert tick_us is None or ((tick_us - anchor_us) % every.every_us == 0 and anchor_us <= tick_us < END_US)
    if latest_us is None:
        assert at_us < anchor_us or anchor_us >= END_US
        assert next_us == (anchor_us if anchor_us < END_US else None)
    else:
        assert latest_us <= at_us
        assert ticks.latest_us(latest_us) == latest_us
        if next_us is None:
            assert latest_us + every.every_us >= END_US
        else:
            assert at_us < next_us == latest_us + every.every_us
            assert ticks.latest_us(next_us - 1) == latest_us


@LAWS
@given(every=everies, anchor_us=anchors, a_us=anchors, b_us=anchors, c_us=anchors, steps=st.integers(0, 30))
def test_intervals_count(every: Every, anchor_us: int, a_us: int, b_us: int, c_us: int, steps: int) -> None:
    """count(a, b) is how often next steps, and a sum; nothing is counted backwards."""
    ticks = every.ticks(anchor_us)
    a_us, b_us, c_us = sorted((a_us, b_us, c_us))
    assert ticks.count(a_us, c_us) == ticks.count(a_us, b_us) + ticks.count(b_us, c_us)
    assert ticks.count(c_us, a_us) == 0
    at_us = a_us
    for taken in range(steps):
        next_us = ticks.next_us(at_us)
        if next_us is None:
            assert ticks.count(a_us, 2 * END_US) == taken
            return
        at_us = next_us
    assert ticks.count(a_us, at_us) == steps


def test_a_year_of_seconds_is_counted_by_arithmetic() -> None:
    """The longest outage costs no more than the shortest one."""
    ticks = Every(seconds=1).ticks(7)
    assert ticks.count(7, 365 * 86_400 * SECOND_US) == 365 * 86_400 - 1
    assert ticks.latest_us(365 * 86_400 * SECOND_US) == (365 * 86_400 - 1) * SECOND_US + 7
