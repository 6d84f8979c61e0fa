"""The meter: whatever happens in whatever order, its sums agree, its labels are bounded, its percentiles are close."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.model import Again, Failed, Outcome, Stopped, Succeeded
from runtime import ActionCtx, App, MutationCtx, Namespace
from runtime.meter import MINUTE_US, SLOT_US, SLOTS_KEPT, SPANS_US, UNKNOWN, Histogram, Meter
from runtime.testing import Harness

FAILURE = Failed("error", "no luck")
OUTCOMES: dict[str, Outcome] = {
    "success": Succeeded(),
    "failed": FAILURE,
    "timeout": Failed("timeout", "too long"),
    "canceled": Stopped(),
    "failed and canceled": Stopped(FAILURE),
    "retried": Again(FAILURE, 10),
}
PATHS = {"f:one": "f:one", "f:old": "f:one", "f:two": "f:two"}


def meter_at(now: list[int]) -> Meter:
    return Meter(PATHS, lambda: now[0])


# ------------------------------------------------------------------ attempts

ENDS = st.lists(
    st.tuples(
        st.sampled_from([*PATHS, "f:gone", "x", UNKNOWN]),
        st.sampled_from([*OUTCOMES]),
        st.integers(0, 90 * MINUTE_US),
    ),
    max_size=60,
)


@given(ends=ENDS, late_us=st.integers(0, 30 * MINUTE_US))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_every_attempt_is_counted_once_everywhere(ends: list[tuple[str, str, int]], late_us: int) -> None:
    """In total, under its function, and in its minute; a failure under its cause, whatever became of the job."""
    meter = meter_at([0])
    for path, name, at_us in ends:
        meter.started(path)
        meter.ended(path, OUTCOMES[name], at_us)
    assert meter.total.started == len(ends)
    assert set(meter.functions) == {"f:one", "f:two", UNKNOWN}  # no name of a row becomes a label
    for field, names in {
        "success": {"success"},
        "failed": {"failed", "timeout"},
        "canceled": {"canceled", "failed and canceled"},
        "retried": {"retried"},
    }.items():
        assert getattr(meter.total, field) == sum(name in names for _, name, _ in ends)
        for function, counts in meter.functions.items():
            expected = sum(name in names and PATHS.get(path, UNKNOWN) == function for path, name, _ in ends)
            assert getattr(counts, field) == expected
    failures = sum(sum(counts.failures.values()) for counts in meter.functions.values())
    assert failures == sum(name not in ("success", "canceled") for _, name, _ in ends)


@given(ends=ENDS)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_the_last_hour_is_sixty_minutes_oldest_first(ends: list[tuple[str, str, int]]) -> None:
    """Each with the attempts that ended in it, when they were told in order of time; nothing grows beyond that."""
    meter = meter_at([0])
    ends = sorted(ends, key=lambda end: end[2])
    now_us = ends[-1][2] if ends else 0
    for path, name, at_us in ends:
        meter.ended(path, OUTCOMES[name], at_us)
    minutes = meter.minutes(now_us)
    assert [minute.at_us for minute in minutes] == [
        (now_us // MINUTE_US - back) * MINUTE_US for back in range(59, -1, -1)
    ]
    for minute in minutes:
        inside = [name for _, name, at_us in ends if minute.at_us <= at_us < minute.at_us + MINUTE_US]
        assert minute.success == inside.count("success")
        assert minute.failed == inside.count("failed") + inside.count("timeout")
        assert minute.canceled == inside.count("canceled") + inside.count("failed and canceled")
        assert minute.retried == inside.count("retried")
    assert len(meter._minutes) <= 61


def test_a_clock_that_was_set_back_costs_no_memory() -> None:
    """Minutes that are yet to come are forgotten like any others, the earliest first."""
    meter = meter_at([0])
    for back in range(500):
        meter.ended("f:one", OUTCOMES["success"], (10_000 - back) * MINUTE_US)
    assert len(meter._minutes) <= 61
    assert meter.total.success == 500


# ------------------------------------------------------------------ histograms


@given(
    values=st.lists(st.integers(0, 2 * SPANS_US[-1]), min_size=1, max_size=200),
    share=st.floats(0.01, 1.0),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_a_quantile_is_within_a_bound_of_the_real_one(values: list[int], share: float) -> None:
    """Between the bounds that the real one lies between; beyond the last bound nothing is told but that bound."""
    histogram = Histogram(SPANS_US)
    for value in values:
        histogram.add(value)
    ranked = sorted(values)
    rank = next(place for place in range(1, len(ranked) + 1) if place >= share * len(ranked) - 1e-9)
    real = ranked[rank - 1]
    found = histogram.quantile(histogram.counts, share)
    assert found is not None
    above = next((bound for bound in SPANS_US if bound >= real), SPANS_US[-1])
    below = max((bound for bound in SPANS_US if bound < real), default=0)
    assert min(below, SPANS_US[-1]) <= found <= above
    assert sum(histogram.counts) == len(values)
    assert histogram.sum == sum(values)


@given(steps=st.lists(st.tuples(st.integers(0, 20), st.lists(st.integers(0, 10**7), max_size=5)), max_size=30))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_recent_is_what_was_counted_in_the_last_slots(steps: list[tuple[int, list[int]]]) -> None:
    """No value is counted twice or lost, however the slots go by; all that ever was stays in the sums."""
    histogram = Histogram(SPANS_US)
    slot, told = 0, []
    for passed, values in steps:
        slot += passed
        histogram.turn_to(slot)
        for value in values:
            histogram.add(value)
            told.append((slot, value))
    recent = [value for at, value in told if at >= slot - SLOTS_KEPT]
    counts, total = histogram.recent(slot)
    assert (sum(counts), total) == (len(recent), sum(recent))
    assert (sum(histogram.counts), histogram.sum) == (len(told), sum(value for _, value in told))


def test_what_nobody_measured_is_none() -> None:
    """Zero would be a figure; and after five silent minutes nothing is known any more."""
    now = [0]
    meter = meter_at(now)
    assert meter.recent() == (None,) * 5
    meter.turned(4, 1_000)
    meter.turned(2, 1_000, [-5, 3])
    recent = meter.recent()
    assert recent.batch_mean == 3
    assert recent.commit_p50_us == pytest.approx(900, rel=0.2)
    assert recent.start_lag_p99_us is not None and recent.start_lag_p99_us <= SPANS_US[0]
    now[0] += SLOT_US * (SLOTS_KEPT + 1)
    assert meter.recent() == (None,) * 5
    assert sum(meter.commit.counts) == 2


# ------------------------------------------------------------------ in an app


def make_app() -> App[Any]:
    functions = Namespace("f")

    @functions.mutation(aliases=["f:before"])
    async def note(ctx: MutationCtx, *, fails: bool = False) -> None:
        if fails:
            raise RuntimeError("no luck")

    @functions.action(retry=2)
    async def send(ctx: ActionCtx, *, fails: bool = False, seconds: float = 0) -> None:
        await ctx.sleep(seconds)
        if fails:
            raise RuntimeError("no luck")

    app: App[Any] = App("unused.db", namespaces=[functions])
    app.crons.interval("often", note, minutes=10)
    return app


async def test_an_app_counts_what_its_jobs_come_to() -> None:
    """Mutations and actions, ends of all sorts, ticks and turns; live calls are turns, and no attempts."""
    app = make_app()
    async with Harness(app) as h:
        meter = app._started().meter
        await h.advance(minutes=5)
        first = meter.total.started  # of the cron
        await h.call("f:note")
        assert meter.total.started == first
        await h.scheduler.run_now("f:before")
        await h.scheduler.run_now("f:note", {"fails": True})
        await h.scheduler.run_now("f:send", {"fails": True})
        stopped = await h.scheduler.run_now("f:send", {"seconds": 3_000})
        await h.settle()
        await h.scheduler.cancel(stopped, running=True)
        await h.advance(minutes=3)
        note, send = meter.functions["f:note"], meter.functions["f:send"]
        assert (note.started - first, note.success - first, note.failed) == (2, 1, 1)
        assert (send.started, send.failed, send.retried, send.canceled) == (3, 1, 1, 1)
        assert send.failures == {"error": 2}
        assert meter.functions[UNKNOWN].idle
        ticks = meter.ticks_run
        await h.advance(minutes=30)
        assert meter.ticks_run == ticks + 3
        assert sum(meter.batch.counts) == sum(meter.commit.counts) > 5
        assert sum(meter.lag.counts) == meter.total.started
        assert sum(minute.success for minute in meter.minutes(h.clock.now_us())) == meter.total.success


async def test_lateness_is_measured_from_the_fire_time() -> None:
    """Of the attempt, not from what was asked first: a retry is not late for having been tried before."""
    app = make_app()
    async with Harness(app, crons=False) as h:
        await h.scheduler.run_now("f:send", {"fails": True})
        await h.advance(minutes=5)
        assert app._started().meter.lag.sum == 0
        await h.scheduler.run_after(60, "f:note")
        await h.restart(down_for=100)
        assert app._started().meter.lag.sum == 40_000_000
        assert app._started().meter.total.started == 1  # counted anew with each start
