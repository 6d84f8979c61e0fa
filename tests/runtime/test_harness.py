"""The harness itself: virtual time, restarts, determinism, and saying so when it can't go on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runtime.testing
from runtime import ActionCtx, App, InvalidTime, MutationCtx, Namespace, NotRegistrable, NotStarted
from runtime.testing import START, Harness, NotSettled, arguments, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.conftest import Start

ticks: Namespace[Any] = Namespace("ticks")


@ticks.mutation
async def tick(ctx: MutationCtx, *, every: float, left: int) -> float:
    """Run again, `left` times."""
    if left:
        await ctx.scheduler.after(every).call(tick, every=every, left=left - 1)
    return (ctx.now - START).total_seconds()


@ticks.action
async def naps(ctx: ActionCtx, *, seconds: float) -> float:
    """Sleep and say when it woke."""
    await ctx.sleep(seconds)
    return (ctx.now - START).total_seconds()


async def test_advance_runs_everything_on_the_way_at_its_own_moment(start: Start) -> None:
    """A chain of jobs must run at each of its moments, not all at the end, and be returned in order of completion."""
    h = await start(ticks)
    await h.call(tick, every=60, left=10)
    await h.scheduler.run_after(90, naps.bind(seconds=45))
    ended = await h.advance(minutes=5)
    assert [(job.path, job.result) for job in ended] == [
        ("ticks:tick", 60), ("ticks:tick", 120), ("ticks:naps", 135), ("ticks:tick", 180), ("ticks:tick", 240),
        ("ticks:tick", 300),
    ]  # fmt: skip
    assert h.now == START + timedelta(minutes=5)
    assert [job.scheduled_at for job in await h.pending()] == [START + timedelta(minutes=6)]
    assert len(await h.advance(hours=1)) == 5
    assert await h.advance(hours=1) == []


@given(st.lists(st.integers(0, 100), max_size=6))
@settings(max_examples=15, deadline=None)
def test_many_small_steps_are_one_large_step(steps: list[int]) -> None:
    """However time is cut into pieces, the same runs must happen at the same moments."""

    async def run(h: Harness, cuts: list[int]) -> list[tuple[str, Any]]:
        await h.scheduler.run_after(10, tick.bind(every=7.5, left=20))
        await h.scheduler.run_after(3, naps.bind(seconds=33))
        ended = [job for cut in cuts for job in await h.advance(cut)]
        return [(job.id, job.result) for job in ended]

    app = App("unused.db", namespaces=[ticks])
    whole = simulate(app, lambda h: run(h, [sum(steps)]))
    assert simulate(app, lambda h: run(h, steps)) == whole


async def test_time_starts_where_it_is_told_and_only_moves_when_told(start: Start) -> None:
    """`start` must be the first now, in any zone, and calls must not move it."""
    zone = datetime(2030, 6, 1, 12, tzinfo=UTC)
    h = await start(ticks, start=zone)
    await h.scheduler.run_now(tick.bind(every=1, left=0))
    await h.settle()
    assert h.now == zone
    await h.advance_to(zone + timedelta(days=1))
    await h.advance(timedelta(hours=1), minutes=1, seconds=0.5)
    assert h.now == zone + timedelta(days=1, hours=1, minutes=1, seconds=0.5)
    for bad in (datetime(2031, 1, 1), zone):
        with pytest.raises(InvalidTime):
            await h.advance_to(bad)
    with pytest.raises(InvalidTime):
        await h.advance(-1)
    with pytest.raises(InvalidTime):
        Harness(h.app, start=datetime(2026, 1, 1))


async def test_settle_runs_what_is_due_and_what_that_makes_due(start: Start) -> None:
    """A chain without delays must run to its end without time passing; what is later stays."""
    h = await start(ticks)
    await h.call(tick, every=0, left=5)
    await h.scheduler.run_after(0.000_001, tick.bind(every=0, left=0))
    assert len(await h.settle()) == 5
    assert h.now == START
    assert len(await h.pending(tick)) == 1


async def test_pending_and_runs_show_one_function_or_all(start: Start) -> None:
    """Pending is by fire time, runs by start; both filter by function or path; a canceled job never ran."""
    h = await start(ticks)
    for seconds in (3, 1, 2):
        await h.scheduler.run_after(seconds, naps.bind(seconds=0))
    canceled = await h.scheduler.run_after(1, tick.bind(every=1, left=0))
    times = [job.scheduled_at for job in await h.pending()]
    assert times == sorted(times)
    assert len(await h.pending(naps)) == len(await h.pending("ticks:naps")) == 3
    assert [job.id for job in await h.pending(tick)] == [canceled]
    await h.scheduler.cancel(canceled)
    await h.advance(2)
    assert [job.result for job in await h.runs(naps)] == [1, 2]
    assert await h.runs("ticks:tick") == []
    assert len(await h.runs()) == 2


# ------------------------------------------------------------------ restarts


@pytest.mark.parametrize("kill", [True, False])
async def test_a_restart_keeps_jobs_and_interrupts_running_actions(start: Start, kill: bool) -> None:
    """Pending jobs must survive and run; an action that ran must be failed as interrupted, and not run again."""
    h = await start(ticks)
    running = await h.scheduler.run_now(naps.bind(seconds=1000))
    overdue = await h.scheduler.run_after(5, tick.bind(every=0, left=0))
    later = await h.scheduler.run_after(500, tick.bind(every=0, left=0))
    await h.settle()
    await h.restart(down_for=100, kill=kill)
    assert h.now == START + timedelta(seconds=100)
    jobs = {job.id: job async for job in h.scheduler.list()}
    assert (jobs[running].state, jobs[running].cause, jobs[running].attempt) == ("failed", "interrupted", 1)
    assert jobs[overdue].state == "success"
    assert jobs[overdue].started_at == h.now
    assert jobs[later].state == "pending"
    assert [job.id for job in await h.advance(1000)][-1] == later
    assert len(await h.runs(naps)) == 1


async def test_a_restart_starts_on_time_afterwards(start: Start) -> None:
    """Ids must go on without doubles, and calls must work at once, however often it restarts."""
    h = await start(ticks)
    ids = []
    for round_ in range(4):
        ids.append(await h.scheduler.run_after(10, tick.bind(every=0, left=0)))
        await h.restart(down_for=timedelta(seconds=1), kill=bool(round_ % 2))
    assert ids == sorted(set(ids))
    assert len(await h.pending()) == 4


async def test_the_app_is_itself_again_afterwards(tmp_path: Path) -> None:
    """After the harness the same App must run on its own file, and the harness's folder be gone."""
    app = App(tmp_path / "real.db", namespaces=[ticks])
    async with Harness(app) as h:
        used = h._db
        assert used is not None
        assert used.exists()
        await h.scheduler.run_after(10, tick.bind(every=0, left=0))
        assert not (tmp_path / "real.db").exists()
    assert not used.parent.exists()
    async with app:
        assert await app.scheduler.list().count() == 0
    assert (tmp_path / "real.db").exists()
    with pytest.raises(NotStarted):
        await h.settle()


async def test_a_harness_may_use_and_keep_a_file(tmp_path: Path) -> None:
    """With `db=` the file must be kept, and be there for the next harness."""
    app = App("unused.db", namespaces=[ticks])
    async with Harness(app, db=tmp_path / "kept.db") as h:
        job_id = await h.scheduler.run_after(10, tick.bind(every=0, left=0))
    async with Harness(app, db=tmp_path / "kept.db") as h:
        assert [job.id for job in await h.pending()] == [job_id]
        assert len(await h.advance(10)) == 1


async def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """When the app can't start on the harness, the folder must be gone and the app usable again."""
    app = App(tmp_path / "real.db", namespaces=[ticks])
    bad: Namespace[Any] = Namespace("bad")

    @bad.mutation
    async def unknown(ctx: MutationCtx, *, what: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    app.include(bad)
    harness = Harness(app)
    with pytest.raises(NotRegistrable):
        async with harness:
            raise AssertionError
    assert harness._db is not None
    assert not harness._db.parent.exists()
    del bad.functions["bad:unknown"]
    async with app:
        assert await app.scheduler.list().count() == 0


async def test_running_actions_end_with_the_harness() -> None:
    """Leaving the block must not wait for an action, and must end it, so that no test leaves a task behind."""
    ended: list[str] = []
    namespace: Namespace[Any] = Namespace("stuck")

    @namespace.action
    async def forever(ctx: ActionCtx) -> None:
        try:
            await ctx.sleep(10_000)
        finally:
            ended.append("ended")

    async with Harness(App("unused.db", namespaces=[namespace])) as h:
        await h.scheduler.run_now("stuck:forever")
        await h.settle()
        assert ended == []
    assert ended == ["ended"]


async def test_an_action_that_waits_for_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """When virtual time can't go on, the harness must say which action is to blame and what to do."""
    monkeypatch.setattr(runtime.testing, "_PATIENCE_SECONDS", 0.0)
    namespace: Namespace[Any] = Namespace("stuck")
    never = asyncio.Event()

    @namespace.action
    async def waits(ctx: ActionCtx) -> None:
        await never.wait()

    async with Harness(App("unused.db", namespaces=[namespace])) as h:
        monkeypatch.setattr(runtime.testing, "_PATIENCE_SECONDS", 0.01)
        await h.scheduler.run_now("stuck:waits")
        with pytest.raises(NotSettled, match=r"stuck:waits.*[Uu]se ctx\.sleep, or override what it uses"):
            await h.settle()
        never.set()
        assert [job.state for job in await h.settle()] == ["success"]


# ------------------------------------------------------------------ determinism and simulate


def busy() -> App:
    """Return an app whose jobs make more jobs, of both kinds, that overlap."""
    namespace: Namespace[Any] = Namespace("busy")

    @namespace.mutation
    async def spread(ctx: MutationCtx, *, depth: int) -> list[str]:
        ids = []
        for at in range(2 if depth else 0):
            ids.append(await ctx.scheduler.after(at * depth).call(spread, depth=depth - 1))
            ids.append(await ctx.scheduler.after(at).call(work, seconds=depth))
        return ids

    @namespace.action
    async def work(ctx: ActionCtx, *, seconds: float) -> str:
        await ctx.sleep(seconds)
        await ctx.scheduler.run_after(1, "busy:spread", {"depth": 0})
        assert ctx.invoker.source == "scheduler"
        return f"{ctx.invoker.job_id} {ctx.invoker.attempt}"

    return App("unused.db", namespaces=[namespace])


async def history(h: Harness) -> list[Any]:
    """Run the busy app, with a crash, and return everything that can be seen of it."""
    await h.scheduler.run_now("busy:spread", {"depth": 3})
    ended = [*(await h.advance(3)), *(await h.settle())]
    await h.restart(down_for=2)
    ended += await h.advance(60)
    return [ended, await h.runs(), [job async for job in h.scheduler.list()]]


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    """Two runs of one scenario with one seed must agree on every id, order, time and result."""
    first = simulate(busy(), history, seed=seed)
    assert len(first[2]) > 20
    assert simulate(busy(), history, seed=seed) == first


def test_another_seed_gives_other_ids() -> None:
    """The seed must decide the ids; the shape of the run stays."""
    first, second = (simulate(busy(), history, seed=seed) for seed in (1, 2))
    assert not {job.id for job in first[2]} & {job.id for job in second[2]}
    assert [job.path for job in first[1]] == [job.path for job in second[1]]


@given(delays=st.lists(st.floats(0, 1_000_000, allow_nan=False), max_size=5), seed=st.integers(0, 1 << 32))
@settings(max_examples=15, deadline=None)
def test_simulate_returns_the_scenarios_result(delays: list[float], seed: int) -> None:
    """From synchronous code, such as a Hypothesis test: every job must run exactly at its microsecond."""

    async def scenario(h: Harness) -> list[tuple[float, Any]]:
        await h.scheduler.run_many(tick.bind(every=0, left=0).after(delay) for delay in delays)
        ended = await h.advance(1_000_001)
        assert all(job.started_at == job.scheduled_at for job in ended)
        return [job.result for job in ended]

    results = simulate(App("unused.db", namespaces=[ticks]), scenario, seed=seed)
    assert results == sorted(round(delay * 1_000_000) / 1_000_000 for delay in delays)


def test_simulate_raises_what_the_scenario_raises() -> None:
    """A failure must come out as it is, and leave the app usable."""
    app = App("unused.db", namespaces=[ticks])

    async def fails(h: Harness) -> None:
        raise LookupError("here")

    async def works(h: Harness) -> datetime:
        return h.now

    with pytest.raises(LookupError, match="here"):
        simulate(app, fails)
    assert simulate(app, works, start=START + timedelta(days=1)) == START + timedelta(days=1)


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_generated_arguments_fit_the_function(data: st.DataObject) -> None:
    """`arguments(fn)` must give what the function accepts, every time."""
    given_args = data.draw(arguments(naps))
    assert naps.arguments.validate(given_args, "ticks:naps") == given_args
