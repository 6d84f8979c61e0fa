"""C1, C2, C5, C6: the wall clock steps, the host sleeps, timers ring early. Nothing early, twice or lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actor_scheduler.clock import SystemClock
from actor_scheduler.limits import ALARM_US_MAX, SECOND_US
from runtime import ActionCtx, MutationCtx, Namespace
from tests.faults.rig import make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from actor_scheduler.testing.clock import VirtualTimer
    from tests.faults.rig import Rig

HOUR_US = 3_600 * SECOND_US
YEAR_US = 365 * 24 * HOUR_US


class Runs:
    """Functions that note when they ran, by the clock they saw."""

    def __init__(self) -> None:
        self.ns: Namespace[Any] = Namespace("c")
        self.at_us: dict[str, list[int]] = {}
        self.clock: Callable[[], int] = lambda: 0

        @self.ns.mutation
        async def write(ctx: MutationCtx[Any], *, who: str) -> None:
            self.at_us.setdefault(who, []).append(self.clock())

        @self.ns.action
        async def act(ctx: ActionCtx[Any], *, who: str) -> None:
            self.at_us.setdefault(who, []).append(self.clock())
            await ctx.sleep(5)

    def watch(self, rig: Rig) -> Rig:
        self.clock = rig.clock.now_us
        return rig


async def ring_everything(rig: Rig) -> None:
    """Ring every armed timer, however early, as a coarse or impatient event loop would."""
    rig.clock.ring_early()
    await rig.rest()


@pytest.mark.parametrize("kind", ["write", "act"])
async def test_C6_a_timer_that_rings_early_starts_nothing_early(path: Path, kind: str) -> None:
    """However often the alarm rings before its time, the job starts at its time, once."""
    runs = Runs()
    async with runs.watch(make(path, runs.ns)) as rig:
        due_us = rig.clock.now_us() + 10 * SECOND_US
        await rig.app.scheduler.run_after(10, f"c:{kind}", {"who": "a"})
        for early_us in (9 * SECOND_US, SECOND_US, 1_000, 1):
            rig.clock.step(due_us - early_us - rig.clock.now_us())
            await ring_everything(rig)
            assert runs.at_us == {}
        await rig.pass_time(0.000001)
        assert runs.at_us == {"a": [due_us]}
        await ring_everything(rig)  # ctx.sleep of the action, rung early
        if kind == "act":
            assert await rig.app.scheduler.list(state="in_progress").count() == 1
        await rig.pass_time(60)
        assert await rig.app.scheduler.list(state="success").count() == 1
        assert runs.at_us == {"a": [due_us]}


async def test_C1_a_jump_forward_starts_what_fell_due_once_and_in_order(path: Path) -> None:
    """A step of a year is noticed at the next wake-up; everything due runs by fire time, nothing later does."""
    runs = Runs()
    async with runs.watch(make(path, runs.ns)) as rig:
        for days in (300, 100, 200, 400):
            await rig.app.scheduler.run_after(days * 86_400, "c:write", {"who": str(days)})
        await rig.rest()
        rig.clock.step(YEAR_US)
        await ring_everything(rig)
        assert list(runs.at_us) == ["100", "200", "300"]
        await ring_everything(rig)
        assert [len(at) for at in runs.at_us.values()] == [1, 1, 1]
        await rig.pass_time(40 * 86_400)
        assert list(runs.at_us) == ["100", "200", "300", "400"]


@pytest.mark.parametrize("back_us", [1, SECOND_US, HOUR_US, 5 * YEAR_US])
@pytest.mark.parametrize("restarts", [False, True])
async def test_C2_C10_a_jump_backward_runs_nothing_twice_and_nothing_early(
    path: Path, back_us: int, restarts: bool
) -> None:
    """What ran stays run; what is pending waits for its own time by the new clock, also over a restart."""
    runs = Runs()
    async with runs.watch(make(path, runs.ns)) as rig:
        due_us = rig.clock.now_us() + 20 * SECOND_US
        await rig.app.scheduler.run_after(10, "c:write", {"who": "ran"})
        await rig.app.scheduler.run_after(20, "c:act", {"who": "waits"})
        await rig.pass_time(15)
        rig.clock.step(-back_us)
        if restarts:
            await rig.restart()
            await rig.pass_time(60 if back_us > YEAR_US else 0)  # given to a clock that is years behind, to be set
        await ring_everything(rig)
        await rig.pass_time(1)
        await rig.app.scheduler.run_now("c:write", {"who": "new"})
        await rig.rest()
        assert {who: len(at) for who, at in runs.at_us.items()} == {"ran": 1, "new": 1}
        await rig.pass_time((due_us - rig.clock.now_us()) / SECOND_US)
        assert runs.at_us["waits"] == [due_us]
        await rig.pass_time(10)
        assert {len(at) for at in runs.at_us.values()} == {1}
        assert await rig.app.scheduler.list(state="success").count() == 3


@pytest.mark.parametrize("off_us", [-56 * YEAR_US, -2 * 24 * HOUR_US, 80 * YEAR_US])
async def test_C3_a_clock_that_cannot_be_right_starts_nothing_until_it_is_set(path: Path, off_us: int) -> None:
    """At a start in 1970, or in 2106, jobs wait for the network to tell the time; calls are served meanwhile."""
    runs = Runs()
    async with runs.watch(make(path, runs.ns)) as rig:
        await rig.app.scheduler.run_after(3_600, "c:act", {"who": "a"})
        await rig.rest()
        rig.clock.step(off_us)
        await rig.restart()
        if off_us < 0:  # by a clock in 2106 it would be for 2106
            await rig.app.scheduler.run_now("c:write", {"who": "b"})
        await ring_everything(rig)
        await rig.pass_time(30)
        assert runs.at_us == {}
        rig.clock.step(-off_us)  # the clock is set
        await rig.pass_time(1)
        await rig.pass_time(3_600)
        assert {who: len(at) for who, at in runs.at_us.items()} == ({"a": 1, "b": 1} if off_us < 0 else {"a": 1})


async def test_C3_a_clock_that_stays_wrong_is_believed_after_a_minute(path: Path) -> None:
    """A wrong clock must not stop the app for ever: the wait is bounded, and the log has said so."""
    runs = Runs()
    async with runs.watch(make(path, runs.ns)) as rig:
        await rig.app.scheduler.run_after(3_600, "c:act", {"who": "a"})
        await rig.rest()
        rig.clock.step(80 * YEAR_US)
        await rig.restart()
        await rig.pass_time(59)
        assert runs.at_us == {}
        await rig.pass_time(2)
        assert list(runs.at_us) == ["a"]


@pytest.mark.parametrize("off_us", [-56 * YEAR_US, 80 * YEAR_US])
async def test_C3_a_cron_that_a_wrong_clock_has_activated_ticks_once_the_clock_is_set(path: Path, off_us: int) -> None:
    """It is deployed at a start in 1970, or in 2106: in no case is it silent once the clock is right."""
    runs = Runs()
    async with runs.watch(make(path, runs.ns)) as rig:
        await rig.app.scheduler.run_now("c:write", {"who": "before"})
        await rig.rest()
        await rig.kill()
        rig.app.crons.interval("sweep", "c:write", {"who": "cron"}, hours=1)
        rig.clock.step(off_us)
        await rig.start()
        await rig.pass_time(30)
        rig.clock.step(-off_us)
        set_us = rig.clock.now_us()
        await rig.pass_time(1.1)
        assert list(runs.at_us) == ["before", "cron"]
        await rig.pass_time(3_600)
        hours = [(at - set_us) // HOUR_US for at in runs.at_us["cron"]]
        newest = (await rig.app.crons.runs("sweep"))[0]
        assert (hours[-1], newest.skipped) == (0, 0)
        assert len(hours) == 2


async def test_C5_after_a_suspend_overdue_work_runs_at_the_watchdogs_wake(path: Path) -> None:
    """The host slept through the moment: nothing rang, and the first wake-up of any kind runs what is overdue."""
    runs = Runs()
    async with runs.watch(make(path, runs.ns)) as rig:
        await rig.app.scheduler.run_after(3_600, "c:act", {"who": "a"})
        await rig.rest()
        rig.clock.step(8 * HOUR_US)
        await rig.rest()
        assert runs.at_us == {}
        woke_us = rig.clock.now_us()
        await ring_everything(rig)
        assert runs.at_us == {"a": [woke_us]}


async def test_C4_C5_the_real_alarm_never_sleeps_longer_than_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked of the system clock, its timer rings within 60 s, and never in the past."""
    asked: list[float] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda delay, callback: asked.append(delay))
    clock = SystemClock()
    for away_us in (-YEAR_US, -1, 0, SECOND_US, HOUR_US, 5 * YEAR_US):
        clock.call_at(clock.now_us() + away_us, lambda: None)
    assert asked[:3] == [0, 0, 0]
    assert 0.5 < asked[3] <= 1
    assert asked[4:] == [ALARM_US_MAX / SECOND_US] * 2


async def test_C5_a_system_alarm_that_rings_after_a_minute_is_armed_again(path: Path) -> None:
    """A far job's watchdog wake-ups start nothing and arm the next one: no more than one timer stands at a time."""
    runs = Runs()
    async with runs.watch(make(path, runs.ns)) as rig:
        call_at = rig.clock.call_at

        def within_a_minute(when_us: int, callback: Callable[[], object]) -> VirtualTimer:
            return call_at(min(when_us, rig.clock.now_us() + ALARM_US_MAX), callback)

        rig.clock.call_at = within_a_minute  # type: ignore[method-assign]
        await rig.app.scheduler.run_after(600.5, "c:write", {"who": "a"})
        due_us = rig.clock.now_us() + 600_500_000
        hops = rig.hops.total
        for _ in range(10):
            await rig.pass_time(60)
            assert len(rig.clock._timers) == 1
            assert runs.at_us == {}
        assert rig.hops.total <= hops + 2  # an idle app leaves the database alone
        await rig.pass_time(60)
        assert runs.at_us == {"a": [due_us]}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(-3 * HOUR_US, 3 * HOUR_US)),
        st.tuples(st.just("ring"), st.just(0)),
        st.tuples(st.just("pass"), st.integers(0, HOUR_US)),
        st.tuples(st.just("schedule"), st.integers(0, 2 * HOUR_US)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=12,
)


@given(steps=steps, kinds=st.lists(st.sampled_from(["write", "act"]), min_size=12, max_size=12))
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_C1_C2_C6_whatever_the_clock_does_each_job_runs_once_and_never_early(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], kinds: list[str]
) -> None:
    """Steps both ways, early rings, restarts: in the end each job has run exactly once, not before its time."""
    path = tmp_path_factory.mktemp("clock") / "app.db"

    async def run() -> None:
        runs = Runs()
        due_us: dict[str, int] = {}
        async with runs.watch(make(path, runs.ns)) as rig:
            for at, (what, span_us) in enumerate(steps):
                match what:
                    case "step":
                        rig.clock.step(span_us)
                    case "ring":
                        await ring_everything(rig)
                    case "pass":
                        await rig.pass_time(span_us / SECOND_US)
                    case "schedule":
                        due_us[str(at)] = rig.clock.now_us() + span_us
                        await rig.app.scheduler.run_after(span_us / SECOND_US, f"c:{kinds[at]}", {"who": str(at)})
                        await rig.rest()
                    case _:
                        await rig.pass_time(6)  # no action is killed half-way: another test's matter
                        await rig.restart()
            await rig.pass_time(60 * HOUR_US / SECOND_US)
            assert runs.at_us.keys() == due_us.keys()
            for who, at_us in runs.at_us.items():
                assert len(at_us) == 1
                assert at_us[0] >= due_us[who]

    asyncio.run(run())
