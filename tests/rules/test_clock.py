"""Waking: one alarm, a clock that only wakes, and a wall clock that decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actor_scheduler.alarm import Alarm
from actor_scheduler.clock import SystemClock, sleep_until
from actor_scheduler.limits import ALARM_US_MAX, CLOSING_US, SECOND_US
from actor_scheduler.testing import VirtualClock

LAWS = settings(max_examples=100, deadline=None, derandomize=True, database=None)


class CountingClock(VirtualClock):
    """A virtual clock that counts how often it is asked for a timer."""

    def __init__(self) -> None:
        super().__init__(0)
        self.asked = 0

    def call_at(self, when_us: int, callback: Callable[[], object]):  # type: ignore[no-untyped-def]
        self.asked += 1
        return super().call_at(when_us, callback)


class OneAlarm(RuleBasedStateMachine):
    """Arms, moves and steps at random; the alarm is one timer or none, and never misses its moment."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = CountingClock()
        self.rung: list[int] = []
        self.alarm = Alarm(self.clock, lambda: self.rung.append(self.clock.now_us()))
        self.expected: int | None = None
        self.rings_at: int | None = None  # as the clock shows it now: a timer measures a span

    @rule(when_us=st.one_of(st.none(), st.integers(min_value=-5, max_value=200)))
    def arm(self, when_us: int | None) -> None:
        asked, same = self.clock.asked, when_us == self.expected
        self.alarm.arm(when_us)
        self.expected = when_us
        if not same:
            self.rings_at = when_us
        assert self.clock.asked == asked + (not same and when_us is not None), (
            "arming again for the same moment is free"
        )

    @rule(delta_us=st.integers(min_value=0, max_value=50))
    def move(self, delta_us: int) -> None:
        before = len(self.rung)
        self.clock.move_to(self.clock.now_us() + delta_us)
        due = self.rings_at is not None and self.rings_at <= self.clock.now_us()
        assert len(self.rung) == before + due, "it rings once, when its moment was reached"
        if due:
            self.expected = self.rings_at = None

    @rule(delta_us=st.integers(min_value=-50, max_value=50))
    def step(self, delta_us: int) -> None:
        before = len(self.rung)
        self.clock.step(delta_us)
        assert len(self.rung) == before
        if delta_us < 0 and self.rings_at is not None:
            self.rings_at += delta_us

    @invariant()
    def at_most_one_timer(self) -> None:
        assert self.alarm.armed_at_us == self.expected
        assert self.clock.next_timer_us() == self.rings_at


TestOneAlarm = OneAlarm.TestCase
TestOneAlarm.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None
)


def test_an_alarm_may_be_armed_again_while_it_rings() -> None:
    """The actor re-arms from its index as soon as it is woken: the alarm is already disarmed then."""
    clock = VirtualClock(0)
    rung: list[int] = []

    def wake() -> None:
        rung.append(clock.now_us())
        if len(rung) < 3:
            alarm.arm(clock.now_us() + 10)

    alarm = Alarm(clock, wake)
    alarm.arm(10)
    for now_us in (9, 10, 20, 30, 40):
        clock.move_to(now_us)
    assert (rung, alarm.armed_at_us, clock.next_timer_us()) == ([10, 20, 30], None, None)


# ------------------------------------------------------------------ the virtual clock itself


@LAWS
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=15), st.integers(0, 20))
def test_timers_ring_in_order_once_and_only_when_due(timers: list[tuple[int, bool]], now_us: int) -> None:
    """What was not canceled rings by moment, then by order of asking, and what lies ahead stays."""
    clock = VirtualClock(0)
    rung: list[tuple[int, int]] = []
    expected = []
    for place, (when_us, keep) in enumerate(timers):
        timer = clock.call_at(when_us, lambda key=(when_us, place): rung.append(key))  # type: ignore[misc]
        if keep:
            expected.append((when_us, place))
        else:
            timer.cancel()
            timer.cancel()
    clock.move_to(now_us)
    assert rung == sorted(key for key in expected if key[0] <= now_us)
    ahead = [key[0] for key in expected if key[0] > now_us]
    assert clock.next_timer_us() == min(ahead, default=None)
    clock.ring()
    assert len(rung) == len(set(rung))


def test_moving_never_goes_back_and_stepping_does() -> None:
    """`move_to` a past moment leaves the clock where it is; `step` is a correction of the wall clock."""
    clock = VirtualClock(100)
    clock.move_to(50)
    assert clock.now_us() == 100
    clock.step(-70)
    assert clock.now_us() == 30


# ------------------------------------------------------------------ sleep_until


class Script:
    """A clock that wakes at once, whatever it was asked for, and shows the next of the given times."""

    def __init__(self, *shows_us: int) -> None:
        self._shows_us = list(shows_us)
        self.asked: list[int] = []
        self.armed = 0

    def now_us(self) -> int:
        return self._shows_us[0]

    def call_at(self, when_us: int, callback: Callable[[], object]) -> Script:
        self.asked.append(when_us)
        self.armed += 1

        def wake() -> None:
            self._shows_us.pop(0)
            callback()

        asyncio.get_running_loop().call_soon(wake)
        return self

    def cancel(self) -> None:
        self.armed -= 1


@pytest.mark.parametrize(
    ("shows_us", "wakes"),
    [
        ([100], 0), ([101], 0),  # there already: no timer at all
        ([0, 100], 1), ([0, 99, 100], 2), ([0, 1, 2, 3, 100], 4),  # woken early, again and again
        ([0, 50, 10, -30, 60, 100], 5),  # stepped back while asleep
        ([0, 5_000], 1),  # stepped far ahead
    ],
)  # fmt: skip
async def test_sleep_until_returns_when_the_wall_clock_says_so(shows_us: list[int], wakes: int) -> None:
    """Early wake-ups and steps in either direction are looked at and slept on; no timer is left armed."""
    clock = Script(*shows_us)
    await sleep_until(clock, 100)
    assert clock.now_us() >= 100
    assert clock.asked == [100] * wakes
    assert clock.armed == 0


async def test_a_canceled_sleep_leaves_no_timer_behind() -> None:
    """Cancelling takes the wake-up back."""
    clock = VirtualClock(0)
    sleeper = asyncio.ensure_future(sleep_until(clock, 10))
    await asyncio.sleep(0)
    assert clock.next_timer_us() == 10
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    assert clock.next_timer_us() is None


async def test_sleepers_wake_only_at_their_own_moment() -> None:
    """A step of the wall clock without a ring wakes nobody; the ring wakes those whose moment it is."""
    clock = VirtualClock(0)
    woken: list[int] = []

    async def sleep(when_us: int) -> None:
        await sleep_until(clock, when_us)
        woken.append(when_us)

    sleepers = [asyncio.ensure_future(sleep(when_us)) for when_us in (30, 10, 20)]
    for move, expected in ((5, []), (10, [10]), (29, [10, 20]), (30, [10, 20, 30])):
        clock.move_to(move)
        for _ in range(3):
            await asyncio.sleep(0)
        assert woken == expected
    await asyncio.gather(*sleepers)


# ------------------------------------------------------------------ the system clock


class TimerLoop:
    """Records what a SystemClock asks of its loop."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.passes: list[Callable[[], object]] = []

    def call_later(self, wait: float, callback: Callable[[], object]) -> None:
        self.waits.append(wait)
        self.passes.append(callback)

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.passes.append(callback)


@pytest.mark.parametrize(
    ("ahead_us", "wait"),
    [
        (0, 0), (-SECOND_US, 0), (-(1 << 62), 0), (CLOSING_US, 0), (SECOND_US, 0.999), (SECOND_US // 2, 0.499),
        (ALARM_US_MAX, 59.999), (ALARM_US_MAX + 1, 60), (1 << 62, 60),
    ],
)  # fmt: skip
def test_the_system_clock_never_sleeps_past_a_minute(
    ahead_us: int, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wake-up is at most ALARM_US_MAX away and never in the past: suspend and steps are noticed within it."""
    loop, clock = TimerLoop(), SystemClock()
    monkeypatch.setattr(SystemClock, "now_us", lambda _: 1_000)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    clock.call_at(1_000 + ahead_us, lambda: None)
    assert loop.waits == [wait]


def test_the_system_clock_closes_in_on_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last millisecond is spent in passes of the loop, so it rings at its moment; a clock set back rings at once."""
    loop, clock, now_us, rung = TimerLoop(), SystemClock(), [0], []
    monkeypatch.setattr(SystemClock, "now_us", lambda _: now_us[0])
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    clock.call_at(SECOND_US, lambda: rung.append(now_us[0]))
    now_us[0] = SECOND_US - CLOSING_US
    while not rung:
        loop.passes.pop()()
        now_us[0] += 100
    assert rung == [SECOND_US]

    clock.call_at(2 * SECOND_US, lambda: rung.append(now_us[0]))
    now_us[0] -= 3600 * SECOND_US
    loop.passes.pop()()
    assert rung == [SECOND_US, now_us[0]]
