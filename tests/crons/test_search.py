"""The search as laws: next, latest and count agree with each other and with the naive scan, in any zone, at any time."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from actor_scheduler.crons import wall
from actor_scheduler.crons.fields import fields_of
from actor_scheduler.crons.schedule import Cron
from actor_scheduler.crons.search import CronTicks
from actor_scheduler.crons.wall import END_US, Line, line_of, line_through
from actor_scheduler.errors import InvalidCron
from actor_scheduler.limits import SECOND_US
from tests.crons.scan import EXPRESSIONS, MINUTE_US, Naive, Walls, differences, walls_of
from tests.crons.test_fields import expressions

LAWS = settings(max_examples=25, deadline=None, derandomize=True, database=None)
DAY_US = 86_400 * SECOND_US

ZONES = (
    "UTC", "America/New_York", "Europe/Dublin", "Australia/Lord_Howe", "Africa/Cairo", "Africa/Casablanca",
    "Antarctica/Troll", "Pacific/Apia", "Pacific/Kwajalein", "Asia/Kathmandu", "Asia/Gaza", "Africa/Monrovia",
)  # fmt: skip
zones = st.sampled_from(ZONES)


@st.composite
def crons(draw: st.DrawFn) -> Cron:
    """Return any cron."""
    expr = draw(st.one_of(st.sampled_from(EXPRESSIONS), expressions()))
    try:
        return Cron(expr, tz=draw(zones))
    except InvalidCron:
        assume(False)
        raise


@st.composite
def moments(draw: st.DrawFn, tz: str) -> int:
    """Return any moment from before 1970 to after 2199, most of them near a change of the clock."""
    starts = line_of(ZoneInfo(tz)).starts
    base = draw(st.one_of(st.sampled_from(starts).map(lambda second: second * SECOND_US), st.integers(0, END_US)))
    near = st.sampled_from(
        [0, 1, -1, SECOND_US, -SECOND_US, MINUTE_US, 30 * MINUTE_US, -60 * MINUTE_US, 60 * MINUTE_US]
    )
    return base + draw(st.one_of(near, st.integers(-3 * DAY_US, 3 * DAY_US)))


@st.composite
def cases(draw: st.DrawFn, spans: int = 0) -> tuple[object, ...]:
    """Return a cron, a moment, and moments after it."""
    cron = draw(crons())
    found = [draw(moments(cron.tz))]
    for _ in range(spans):
        found.append(found[-1] + draw(st.integers(0, 3 * DAY_US)))
    return cron, *found


# ------------------------------------------------------------------ next and latest


@settings(LAWS, max_examples=60)
@given(case=cases())
@example(case=(Cron("* * * * *"), -1))
@example(case=(Cron("* * * * *"), -5 * SECOND_US))
@example(case=(Cron("* * * * *"), -3 * DAY_US))
@example(case=(Cron("0 9 * * *", tz="Pacific/Apia"), -3 * DAY_US))
@example(case=(Cron("59 23 31 12 *"), END_US - MINUTE_US - 1))
@example(case=(Cron("59 23 31 12 *"), END_US - MINUTE_US))
@example(case=(Cron("0 0 * * *", tz="Asia/Gaza"), END_US - 1))
def test_next_and_latest_enclose_every_moment(case: tuple[Cron, int]) -> None:
    """latest(t) <= t < next(t); each is the other's inverse, and nothing lies between them."""
    cron, at_us = case
    ticks = cron.ticks(0)
    latest_us, next_us = ticks.latest_us(at_us), ticks.next_us(at_us)
    if latest_us is not None:
        assert 0 <= latest_us <= at_us
        assert ticks.latest_us(latest_us) == latest_us
        assert ticks.next_us(latest_us - 1) == latest_us
        assert ticks.next_us(latest_us) == next_us
    if next_us is not None:
        assert at_us < next_us < END_US
        assert ticks.latest_us(next_us) == next_us
        assert ticks.latest_us(next_us - 1) == latest_us
        assert ticks.count(at_us, next_us) == 1
        assert ticks.count(at_us, next_us - 1) == 0
    else:
        assert ticks.count(at_us, 2 * END_US) == 0
    if latest_us is None:
        assert ticks.count(-DAY_US, at_us) == 0


@LAWS
@given(case=cases())
def test_next_strictly_increases(case: tuple[Cron, int]) -> None:
    """Walking forwards never stands still, and walking back meets the same ticks."""
    cron, at_us = case
    ticks = cron.ticks(0)
    walked = []
    while len(walked) < 40 and (tick_us := ticks.next_us(at_us)) is not None:
        assert tick_us > at_us
        walked.append(tick_us)
        at_us = tick_us
    back, at_us = [], at_us if walked else -1
    while len(back) < len(walked):
        back.append(ticks.latest_us(at_us))
        at_us = back[-1] - 1
    assert back == walked[::-1]


@LAWS
@given(case=cases())
def test_what_is_remembered_changes_nothing(case: tuple[Cron, int]) -> None:
    """The same question gets the same answer, whatever was asked before, by whichever of the crons that are equal."""
    cron, at_us = case
    ticks = cron.ticks(0)
    asked = [at_us, at_us + 200 * DAY_US, at_us - 1, at_us + MINUTE_US, at_us]
    first = [(ticks.next_us(moment), ticks.latest_us(moment)) for moment in asked]
    fresh = []
    for moment in asked:
        other = unshared(cron)
        fresh.append((other.next_us(moment), other.latest_us(moment)))
    assert first == fresh


def unshared(cron: Cron) -> CronTicks:
    """Return the ticks of a cron that nobody asked anything yet."""
    return CronTicks(fields_of(cron.expr), line_of(ZoneInfo(cron.tz)))


# ------------------------------------------------------------------ count


@settings(LAWS, max_examples=50)
@given(case=cases(spans=2))
def test_count_is_the_number_of_steps_and_a_sum(case: tuple[Cron, int, int, int]) -> None:
    """count(a, b) is how often next steps, and count(a, c) = count(a, b) + count(b, c)."""
    cron, a_us, b_us, c_us = case
    ticks = cron.ticks(0)
    at_us, steps = a_us, 0
    while steps < 500 and (at_us := ticks.next_us(at_us)) is not None and at_us <= b_us:
        steps += 1
    assert ticks.count(a_us, b_us) == steps or (steps == 500 and ticks.count(a_us, b_us) > 500)
    assert ticks.count(a_us, c_us) == ticks.count(a_us, b_us) + ticks.count(b_us, c_us)
    assert ticks.count(c_us, a_us) == (0 if c_us >= a_us else None)


@LAWS
@given(cron=crons(), cuts=st.lists(st.integers(-DAY_US, END_US + DAY_US), min_size=1, max_size=4))
def test_count_is_a_sum_over_centuries(cron: Cron, cuts: list[int]) -> None:
    """However far apart the moments are."""
    ticks = cron.ticks(0)
    bounds = [-1, *sorted(cuts), END_US]
    total = ticks.count(-1, END_US)
    assert sum(ticks.count(begin, end) for begin, end in pairwise(bounds)) == total
    assert total > 0


def test_count_of_a_whole_span() -> None:
    """Figures that can be worked out by hand."""
    begin_us, end_us = 0, END_US - 1
    days = 230 * 365 + 56  # leap years from 1972 to 2196, but for 2100
    assert Cron("0 9 * * *").ticks(0).count(begin_us, end_us) == days
    assert Cron("* * * * *").ticks(0).count(-1, end_us) == days * 1440
    assert Cron("* * * * *", tz="America/New_York").ticks(0).count(-1, end_us) == days * 1440
    assert Cron("0 0 29 2 *").ticks(0).count(begin_us, end_us) == 56
    assert Cron("0 0 * * SUN").ticks(0).count(begin_us, end_us) == len(range(3, days, 7))
    # New York: the hour from 2 is gone once a year, and the one tick it leaves is at 3.
    spring = 1_773_000_000 * SECOND_US  # 2026-03-08 20:00 UTC
    assert Cron("* 2 * * *", tz="America/New_York").ticks(0).count(spring - DAY_US, spring) == 1
    assert Cron("* * * * *", tz="America/New_York").ticks(0).count(spring - DAY_US, spring) == 1440


# ------------------------------------------------------------------ the scan


@LAWS
@given(case=cases())
def test_ticks_equal_the_naive_scan(case: tuple[Cron, int]) -> None:
    """Whatever the expression, over a day near anything."""
    cron, at_us = case
    zone = ZoneInfo(cron.tz)
    first = at_us // MINUTE_US
    low = 3 * 365 * 1440  # Liberia's offset had seconds up to 1972
    assume(low < first < END_US // MINUTE_US - 2 * 1440)
    expr = cron.expr.replace("-L", "-31").replace("-l", "-31")
    assert list(differences(cron.ticks(0), expr, walls_of(zone, first, first + 1440))) == []


@st.composite
def odd_lines(draw: st.DrawFn) -> tuple[Line, Walls]:
    """Return a zone that no government would think of: many changes within hours, of any size; and what it shows."""
    spans = draw(st.lists(st.integers(15, 1500), min_size=1, max_size=5))
    starts = [0, *accumulate(spans, initial=20_000 * 1440 + draw(st.integers(0, 1440)))][: len(spans) + 1]
    offsets = draw(st.lists(st.integers(-28, 28), min_size=len(starts), max_size=len(starts)))
    assume(all(one != other for one, other in pairwise(offsets)))
    line = line_through([start * 60 for start in starts], [offset * 1800 for offset in offsets])
    first, last = starts[1] - 1440, starts[-1] + 2 * 1440
    shown = tuple(minute + offsets[bisect_right(starts, minute) - 1] * 30 for minute in range(first, last))
    return line, Walls(first, shown, first + offsets[0] * 30)


@LAWS
@given(zone=odd_lines(), expr=st.one_of(st.sampled_from(EXPRESSIONS), expressions()))
def test_ticks_equal_the_naive_scan_in_odd_zones(zone: tuple[Line, Walls], expr: str) -> None:
    """The rule holds for any changes, however large and close: a fold in a fold, a gap into times that came before."""
    line, walls = zone
    try:
        fields = fields_of(expr)
    except InvalidCron:
        assume(False)
    read = expr.replace("-L", "-31").replace("-l", "-31")
    assert list(differences(CronTicks(fields, line), read, walls)) == []


@LAWS
@given(case=cases(), days=st.integers(1, 400))
def test_days_equal_the_naive_scan_in_utc(case: tuple[Cron, int], days: int) -> None:
    """Over longer spans, where days and months matter, in UTC."""
    cron, at_us = case
    first = min(max(at_us, 0), END_US - 800 * DAY_US) // DAY_US
    read = Naive(cron.expr.replace("-L", "-31").replace("-l", "-31"))
    ticks, times = Cron(cron.expr).ticks(0), sorted(read.times)
    listed = [day for day in range(first, first + days) if read.day_matches(day)]
    begin, end = first * DAY_US - 1, (first + days) * DAY_US - 1
    assert ticks.count(begin, end) == len(listed) * len(times)
    if listed:
        assert ticks.next_us(begin) == listed[0] * DAY_US + times[0] * MINUTE_US
        assert ticks.latest_us(end) == listed[-1] * DAY_US + times[-1] * MINUTE_US


# ------------------------------------------------------------------ the line


@LAWS
@given(tz=zones, wall_minute=st.integers(0, 230 * 365 * 1440))
def test_a_fixed_time_fires_once_at_its_first_time(tz: str, wall_minute: int) -> None:
    """A wall time that comes fires when it comes first; one that never comes, where the clock jumped over it."""
    zone, line = ZoneInfo(tz), line_of(ZoneInfo(tz))
    second = line.first_time(wall_minute * 60)
    assume(0 < second < wall.END)
    at = line.segment(second)
    shown = second + line.offsets[at]
    if shown != wall_minute * 60:
        assert second == line.starts[at]  # in a gap
        assert line.shown[at] <= wall_minute * 60 < shown
    assert zone.key == tz
    earlier = [
        start for start, offset in zip(line.starts, line.offsets, strict=True)
        if start <= wall_minute * 60 - offset < line.end(line.segment(start))
    ]  # fmt: skip
    if earlier:
        assert second == min(wall_minute * 60 - line.offsets[bisect_left(line.starts, start)] for start in earlier)


@pytest.mark.parametrize("tz", ZONES)
def test_the_invariants_of_a_line(tz: str) -> None:
    """Segments follow each other, each with another offset than the one before; what was shown never shrinks."""
    line = line_of(ZoneInfo(tz))
    assert len(line.starts) == len(line.offsets) == len(line.shown)
    assert line.starts[0] == 0
    assert list(line.starts) == sorted(set(line.starts))
    assert list(line.shown) == sorted(line.shown)
    assert all(one != other for one, other in pairwise(line.offsets))
    assert set(line.gaps) == {
        at for at in range(1, len(line.starts)) if line.starts[at] + line.offsets[at] > line.shown[at]
    }
    assert bisect_right(line.starts, wall.END) == len(line.starts)


def test_threads_share_ticks() -> None:
    """Several threads ask the same ticks, at moments of their own; none gets another one's answer."""
    ticks = Cron("*/7 * * * *", tz="America/New_York").ticks(0)
    wrong: list[int] = []

    def ask(base_us: int) -> None:
        alone = unshared(Cron("*/7 * * * *", tz="America/New_York"))
        for step in range(2_000):
            at_us = base_us + step * 11 * MINUTE_US
            if ticks.next_us(at_us) != alone.next_us(at_us):
                wrong.append(at_us)

    threads = [threading.Thread(target=ask, args=(year * 370 * DAY_US,)) for year in (20, 40, 60, 80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
