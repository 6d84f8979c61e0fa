"""The beat: it returns when nothing is due any more and what it let start has ended, or when its time is over."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.errors import NotStarted
from actor_scheduler.limits import SECOND_US
from actor_scheduler.stirs import Stirs
from runtime import ActionCtx, App, MutationCtx, Namespace
from runtime.drain import Drained, drain
from runtime.testing import Harness, simulate


def make_app(**options: Any) -> App[Any]:
    functions = Namespace("f")

    @functions.mutation
    async def note(ctx: MutationCtx, *, more: int = 0, fails: bool = False) -> None:
        if fails:
            raise RuntimeError("no luck")
        if more:
            await ctx.scheduler.run_after(0, "f:note", {"more": more - 1})

    @functions.action(concurrency=1)
    async def single(ctx: ActionCtx, *, seconds: float = 0) -> None:
        await ctx.sleep(seconds)

    @functions.action(retry=3, pool="mail")
    async def send(ctx: ActionCtx, *, fails: bool = False, seconds: float = 0) -> None:
        await ctx.sleep(seconds)
        if fails:
            raise RuntimeError("no luck")

    app: App[Any] = App("unused.db", namespaces=[functions], **options)
    app.pool("mail", 2)
    return app


class Beat:
    """A drain beside a harness that moves the time."""

    def __init__(self, app: App[Any], seconds: float, hurry: Any = None) -> None:
        self.task = asyncio.create_task(drain(app._started(), round(seconds * SECOND_US), hurry))

    async def answer(self) -> Drained:
        return await asyncio.wait_for(self.task, 20)


def sleep(h: Harness[Any], seconds: int) -> None:
    """Let time pass while the host is suspended: no timer rings."""
    h.clock.step(seconds * SECOND_US)


def counts(found: Drained) -> tuple[int, ...]:
    return (found.started, found.succeeded, found.failed, found.canceled, found.retrying)


async def test_it_returns_at_once_when_nothing_is_due() -> None:
    """With the next moment, so that an outside clock can come back then."""
    async with Harness(make_app()) as h:
        await h.scheduler.run_after(100, "f:note")
        found = await drain(h.app._started(), 25 * SECOND_US)
        assert counts(found) == (0, 0, 0, 0, 0)
        assert (found.due_left, found.running, found.took_us) == (0, 0, 0)
        assert found.next_at_us == h.clock.now_us() + 100 * SECOND_US


async def test_what_is_due_and_what_that_makes_due_is_run() -> None:
    """A chain of jobs that each schedule the next for now ends before the answer."""
    async with Harness(make_app()) as h:
        await h.scheduler.run_after(10, "f:note", {"more": 4})
        await h.scheduler.run_after(10, "f:note", {"fails": True})
        await h.scheduler.run_after(10, "f:send", {"fails": True})
        sleep(h, 10)
        found = await drain(h.app._started(), 25 * SECOND_US)
        assert counts(found) == (7, 5, 1, 0, 1)
        assert (found.due_left, found.running) == (0, 0)
        assert found.next_at_us is not None  # the retry
        assert len(await h.pending()) == 1


async def test_it_waits_for_actions_that_it_let_start() -> None:
    """As long as they take, within the budget; and counts how they ended."""
    async with Harness(make_app()) as h:
        await h.scheduler.run_now("f:send", {"seconds": 10})
        beat = Beat(h.app, 25)
        await h.advance(9)
        assert not beat.task.done()
        await h.advance(1)
        found = await beat.answer()
        assert counts(found) == (1, 1, 0, 0, 0)
        assert found.took_us == 10 * SECOND_US


async def test_the_budget_ends_it_and_nothing_else() -> None:
    """What runs then goes on."""
    async with Harness(make_app()) as h:
        job_id = await h.scheduler.run_now("f:send", {"seconds": 60})
        beat = Beat(h.app, 25)
        await h.advance(25)
        found = await beat.answer()
        assert (counts(found), found.running, found.took_us) == ((1, 0, 0, 0, 0), 1, 25 * SECOND_US)
        await h.advance(35)
        job = await h.scheduler.get(job_id)
        assert job is not None and job.state == "success"


async def test_a_clock_that_is_set_does_not_lengthen_it() -> None:
    """Time that passed counts, not what the clock says."""
    async with Harness(make_app()) as h:
        await h.scheduler.run_now("f:send", {"seconds": 100})
        beat = Beat(h.app, 10)
        await h.settle()
        h.clock.step(-3600 * SECOND_US)
        await h.advance(10)
        assert (await beat.answer()).took_us == 10 * SECOND_US


async def test_it_does_not_wait_for_what_ran_before() -> None:
    """An action of an hour would keep every beat until its time is over."""
    async with Harness(make_app()) as h:
        await h.scheduler.run_now("f:send", {"seconds": 3600})
        await h.settle()
        await h.scheduler.run_after(1, "f:note")
        sleep(h, 1)
        found = await drain(h.app._started(), 25 * SECOND_US)
        assert (counts(found), found.running) == ((1, 1, 0, 0, 0), 1)


async def test_it_waits_for_a_slot_that_only_an_end_frees() -> None:
    """What is due behind a running attempt of before is due all the same."""
    async with Harness(make_app()) as h:
        await h.scheduler.run_now("f:single", {"seconds": 5})
        await h.settle()
        await h.scheduler.run_now("f:single")
        beat = Beat(h.app, 25)
        await h.advance(4)
        assert not beat.task.done()
        await h.advance(1)
        found = await beat.answer()
        assert (found.started, found.succeeded, found.due_left) == (1, 2, 0)


async def test_it_does_not_wait_for_what_is_paused() -> None:
    """A pool at 0, or everything: an operator ends that, not time."""
    async with Harness(make_app()) as h:
        await h.scheduler.set_pool("mail", 0)
        await h.scheduler.run_now("f:send")
        found = await drain(h.app._started(), 25 * SECOND_US)
        assert (found.started, found.due_left, found.next_at_us) == (0, 1, None)
        await h.scheduler.pause("me")
        await h.scheduler.run_now("f:note")
        found = await drain(h.app._started(), 25 * SECOND_US)
        assert (found.started, found.due_left, found.next_at_us) == (0, 2, None)


async def test_crons_that_are_due_are_run() -> None:
    """Their ticks become jobs, and these run, before the answer."""
    app = make_app()
    app.crons.interval("often", "f:note", minutes=10)
    async with Harness(app) as h:
        await h.advance(minutes=5)
        sleep(h, 6 * 60)
        found = await drain(app._started(), 25 * SECOND_US)
        assert counts(found) == (1, 1, 0, 0, 0)
        assert found.next_at_us is not None and found.next_at_us > h.clock.now_us()


async def test_two_at_once_both_answer_and_nothing_runs_twice() -> None:
    """Each counts what happened while it waited."""
    async with Harness(make_app()) as h:
        for _ in range(5):
            await h.scheduler.run_now("f:send", {"seconds": 1})
        beats = [Beat(h.app, 25), Beat(h.app, 25), Beat(h.app, 1)]
        await h.advance(10)
        answers = [await beat.answer() for beat in beats]
        assert [found.succeeded for found in answers[:2]] == [5, 5]
        assert [job.attempt for job in await h.runs("f:send")] == [1] * 5


async def test_whoever_is_in_a_hurry_ends_it() -> None:
    """A server that stops can't wait for the budget."""
    hurried: list[Any] = []

    @contextmanager
    def hurry(callback: Any) -> Any:
        hurried.append(callback)
        yield
        hurried.append("taken back")

    async with Harness(make_app()) as h:
        await h.scheduler.run_now("f:send", {"seconds": 10})
        beat = Beat(h.app, 25, hurry)
        await h.settle()
        assert len(hurried) == 1
        hurried[0]()
        found = await beat.answer()
        assert (found.started, found.running, found.took_us) == (1, 1, 0)
        assert hurried[1:] == ["taken back"]


async def test_an_app_that_stops_lets_it_end() -> None:
    """At once, with what it knows or an error that says why; another one of that run is refused."""
    async with Harness(make_app()) as h:
        await h.scheduler.run_now("f:send", {"seconds": 10})
        beat = Beat(h.app, 25)
        await h.settle()
        engine = h.app._started()
        await h.restart(kill=False)
        (answer,) = await asyncio.gather(beat.answer(), return_exceptions=True)
        assert isinstance(answer, Drained | NotStarted), answer
        with pytest.raises(NotStarted):
            await drain(engine, SECOND_US)


async def test_nothing_is_left_of_it() -> None:
    """No timer and no listener, however it ended."""
    async with Harness(make_app()) as h:
        stirring, timers = h.app._running().actor.stirring, len(h.clock._timers)
        before = len(stirring._events)
        await drain(h.app._started(), 25 * SECOND_US)
        await h.scheduler.run_now("f:single", {"seconds": 1})
        beat = Beat(h.app, 1000)
        await h.settle()
        beat.task.cancel()
        await asyncio.wait([beat.task])
        await h.advance(1)
        assert (len(stirring._events), len(h.clock._timers)) == (before, timers)


JOBS = st.lists(
    st.tuples(
        st.sampled_from(["f:note", "f:single", "f:send"]),
        st.integers(0, 12),  # due after
        st.integers(0, 12),  # takes
        st.booleans(),  # fails
    ),
    max_size=8,
)


@given(jobs=JOBS, budget=st.integers(0, 15), at=st.integers(0, 12))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_its_answer_is_what_the_jobs_say(jobs: list[tuple[str, int, int, bool]], budget: int, at: int) -> None:
    """Its figures add up with what is on record, it never takes longer than its budget, and ends early only at rest."""

    async def scenario(h: Harness[Any]) -> None:
        for path, after, takes, fails in jobs:
            args: dict[str, Any] = {"fails": fails} if path == "f:note" else {"seconds": takes}
            await h.scheduler.run_after(after, path, args)
        await h.advance(at)
        meter = h.app._started().meter
        running = meter.total.started - sum(counts_of(meter)[1:])
        beat = Beat(h.app, budget)
        await h.settle()
        while not beat.task.done():
            due = [job for job in await h.pending() if job.fire_at <= h.now]
            assert due or meter.total.started - sum(counts_of(meter)[1:]) > 0, "it waits for nothing"
            await h.advance(1)
        found = await beat.answer()
        assert found.took_us <= budget * SECOND_US
        assert found.running == running + found.started - sum(counts(found)[1:])
        if found.took_us < budget * SECOND_US:
            assert found.due_left == 0
            assert found.running <= running

    simulate(make_app(), scenario)


def counts_of(meter: Any) -> tuple[int, ...]:
    total = meter.total
    return (total.started, total.success, total.failed, total.canceled, total.retried)


async def test_every_listener_of_stirs_hears_each() -> None:
    """What one has heard and cleared is not lost for another."""
    stirs = Stirs()
    forever = stirs.event()
    with stirs.listen() as first, stirs.listen() as second:
        stirs.tell()
        assert first.is_set() and second.is_set() and forever.is_set()
        first.clear()
        assert second.is_set()
    stirs.tell()
    assert not first.is_set()
