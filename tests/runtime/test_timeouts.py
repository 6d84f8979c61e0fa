"""Limits on time: of attempts, of live calls and of SQL; and an action that ignores its end costs only its slot."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runtime import ActionCtx, GiveUp, MutationCtx, Namespace, QueryCtx, Retry, TimedOut, TimeLimitExceeded
from runtime.testing import START

if TYPE_CHECKING:
    from tests.runtime.conftest import Start

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"


async def ignore(ctx: ActionCtx, seconds: float) -> None:
    """Take this long, whoever asks to stop; but for the third time, so that a failing test ends."""
    until = ctx.now + timedelta(seconds=seconds)
    for _ in range(3):
        with contextlib.suppress(asyncio.CancelledError):
            await ctx.sleep(max(until - ctx.now, timedelta(0)))
            return


class Slow:
    """Actions that take as long as they are told, and keep a record of who is in a body."""

    def __init__(self) -> None:
        self.ns: Namespace[Any] = Namespace("slow")
        self.entered: list[int] = []
        self.left: list[int] = []
        self.most = 0

        @self.ns.mutation
        async def write(ctx: MutationCtx, *, what: str) -> None:
            await ctx.db.execute("INSERT INTO log (what) VALUES (?)", [what])

        @self.ns.query
        async def written(ctx: QueryCtx) -> list[str]:
            return [row[0] for row in await ctx.db.fetch_all("SELECT what FROM log ORDER BY at")]

        @self.ns.action(timeout=5)
        async def work(ctx: ActionCtx, *, seconds: float) -> str:
            return await self.body(ctx, seconds)

        @self.ns.action(timeout=5, retry=Retry(3, jitter=0, base=1))
        async def again(ctx: ActionCtx, *, seconds: float) -> str:
            return await self.body(ctx, seconds)

        @self.ns.action(timeout=5, retry=Retry(3, jitter=0, base=1), concurrency=1)
        async def deaf(ctx: ActionCtx, *, seconds: float) -> str:
            self.enter(ctx)
            try:
                await ignore(ctx, seconds)
            finally:
                self.left.append(ctx.invoker.attempt)  # type: ignore[union-attr]
            return "late"

        @self.ns.action(timeout=5, retry=2)
        async def tidies(ctx: ActionCtx, *, returns: bool) -> str:
            try:
                await ctx.sleep(100)
            except asyncio.CancelledError:
                await ctx.run_mutation("slow:write", {"what": f"tidied {ctx.invoker.attempt}"})  # type: ignore[union-attr]
                if not returns:
                    raise
            return "saved"

        @self.ns.action
        async def outer(ctx: ActionCtx, *, seconds: float) -> Any:
            return await ctx.run_action("slow:work", {"seconds": seconds})

    def enter(self, ctx: ActionCtx) -> None:
        """Note who is in a body now."""
        self.entered.append(getattr(ctx.invoker, "attempt", 0))
        self.most = max(self.most, len(self.entered) - len(self.left))

    async def body(self, ctx: ActionCtx, seconds: float) -> str:
        """Take this long."""
        self.enter(ctx)
        try:
            await ctx.sleep(seconds)
        finally:
            self.left.append(getattr(ctx.invoker, "attempt", 0))
        return "done"


# ------------------------------------------------------------------ scheduled actions


@pytest.mark.parametrize(
    ("own", "seconds", "ends_after", "cause"),
    [
        (None, 4.999, 4.999, None),
        (None, 60, 5, "timeout"),
        (1, 60, 1, "timeout"),
        (timedelta(seconds=20), 19, 19, None),
        (timedelta(seconds=20), 60, 20, "timeout"),
    ],
)
async def test_an_attempt_that_takes_too_long_fails(
    start: Start, own: Any, seconds: float, ends_after: float, cause: Any
) -> None:
    """After the job's own timeout, else its function's, the body is canceled, left, and the job failed: timeout."""
    slow = Slow()
    h = await start(slow.ns)
    options = {} if own is None else {"timeout": own}
    job_id = await h.scheduler.run_after(1, "slow:work", {"seconds": seconds}, **options)
    (job,) = await h.advance(60)
    assert (job.id, job.state, job.cause) == (job_id, "failed" if cause else "success", cause)
    assert job.completed_at == START + timedelta(seconds=1 + ends_after)
    assert (slow.entered, slow.left) == ([1], [1])
    if cause:
        assert job.error == f"the attempt was still running after {ends_after:g} s"
    assert len(h.app._running().actor.attempts) == 0


async def test_a_timeout_is_retried_as_any_failure_is(start: Start) -> None:
    """Each attempt has its own time; the last one's end is the job's."""
    slow = Slow()
    h = await start(slow.ns)
    job_id = await h.scheduler.run_now("slow:again", {"seconds": 60})
    (job,) = await h.advance(minutes=5)
    assert (job.state, job.cause, job.attempt) == ("failed", "timeout", 3)
    assert [attempt.cause for attempt in await h.scheduler.failed_attempts(job_id)] == ["timeout"] * 2
    assert job.completed_at == START + timedelta(seconds=5 + 1 + 5 + 2 + 5)
    assert (slow.entered, slow.most) == ([1, 2, 3], 1)
    assert await h.scheduler.list(cause="timeout").count() == 1


@pytest.mark.parametrize("returns", [False, True])
async def test_a_canceled_body_may_tidy_up(start: Start, returns: bool) -> None:
    """Within the grace its ctx works; one that returns after all has succeeded, one that goes on raising has not."""
    slow = Slow()
    h = await start(slow.ns)
    await h.scheduler.run_now("slow:tidies", {"returns": returns})
    (job,) = await h.advance(minutes=5)
    if returns:
        assert (job.state, job.result, job.attempt) == ("success", "saved", 1)
        assert await h.call("slow:written") == ["tidied 1"]
    else:
        assert (job.state, job.cause, job.attempt) == ("failed", "timeout", 2)
        assert await h.call("slow:written") == ["tidied 1", "tidied 2"]


@pytest.mark.parametrize("step", [3600, 86_400 * 365, -3600, -86_400 * 365])
async def test_a_step_of_the_wall_clock_is_no_time(start: Start, step: float) -> None:
    """An attempt's time is measured, not read off the wall: forward it ends nothing early, back it ends in time."""
    slow = Slow()
    h = await start(slow.ns)
    options: Any = {"timeout": 30}
    job_id = await h.scheduler.run_now("slow:work", {"seconds": 10 * 365 * 86_400 / 2}, **options)
    await h.advance(10)
    h.clock.step(round(step * 1_000_000))
    await h.settle()
    await h.advance(19)
    job = await h.scheduler.get(job_id)
    assert job is not None
    assert job.state == "in_progress"
    (ended,) = await h.advance(1)
    assert (ended.id, ended.cause) == (job_id, "timeout")


async def test_giving_up_at_a_timeout_is_giving_up(start: Start) -> None:
    """GiveUp ends the job at once, whatever its policy says, and whenever it is raised."""
    ns: Namespace[Any] = Namespace("give")

    @ns.action(retry=3, timeout=1)
    async def act(ctx: ActionCtx) -> None:
        try:
            await ctx.sleep(60)
        except asyncio.CancelledError:
            raise GiveUp("half of it was sent") from None

    h = await start(ns)
    await h.scheduler.run_now("give:act")
    (job,) = await h.advance(60)
    assert (job.state, job.attempt) == ("failed", 1)


# ------------------------------------------------------------------ H3: who does not listen


async def test_H3_an_attempt_that_ignores_its_end_keeps_its_slot_and_is_not_retried(start: Start) -> None:
    """After timeout and grace its job is failed, in spite of its retries; the next job waits until it really ended."""
    slow = Slow()
    h = await start(slow.ns)
    first = await h.scheduler.run_now("slow:deaf", {"seconds": 60})
    second = await h.scheduler.run_now("slow:deaf", {"seconds": 1})
    ended = await h.advance(15)
    assert [(job.id, job.cause, job.attempt) for job in ended] == [(first, "timeout", 1)]
    assert ended[0].completed_at == START + timedelta(seconds=15)
    await h.advance(44)
    assert [job.id for job in await h.pending()] == [second]
    assert slow.entered == [1]
    ended = await h.advance(5)
    assert [(job.id, job.state) for job in ended] == [(second, "success")]
    job = await h.scheduler.get(first)
    assert job is not None
    assert (job.state, job.cause, job.result) == ("failed", "timeout", None)
    assert slow.most == 1
    assert len(h.app._running().actor.attempts) == 0


async def test_H3_a_retry_by_hand_waits_for_the_attempt_before_it(start: Start) -> None:
    """S7: one that is asked for while the first attempt ignores its end enters its body when that has left it."""
    slow = Slow()
    ns: Namespace[Any] = Namespace("two")

    @ns.action(timeout=30)
    async def deaf(ctx: ActionCtx) -> None:
        slow.enter(ctx)
        await ignore(ctx, 60 if ctx.invoker.attempt == 1 else 1)  # type: ignore[union-attr]
        slow.left.append(1)

    h = await start(ns)
    job_id = await h.scheduler.run_now("two:deaf")
    assert [job.cause for job in await h.advance(40)] == ["timeout"]
    assert await h.scheduler.retry(job_id)
    await h.advance(19)
    assert (slow.entered, len(h.app._running().actor.attempts)) == ([1], 2)
    assert [(job.state, job.attempt) for job in await h.advance(5)] == [("success", 2)]
    assert (slow.entered, slow.most, len(h.app._running().actor.attempts)) == ([1, 2], 1, 0)


async def test_H3_an_attempt_that_waits_for_the_one_before_it_has_a_limit_too(start: Start) -> None:
    """L2: its own time runs while it waits, it ends as timed out, and its body was never entered."""
    slow = Slow()
    ns: Namespace[Any] = Namespace("two")

    @ns.action(timeout=5)
    async def deaf(ctx: ActionCtx) -> None:
        slow.enter(ctx)
        await ignore(ctx, 1000)
        slow.left.append(1)

    h = await start(ns)
    job_id = await h.scheduler.run_now("two:deaf")
    await h.advance(15)
    assert await h.scheduler.retry(job_id)
    (job,) = await h.advance(10)
    assert (job.cause, job.attempt, slow.entered) == ("timeout", 2, [1])
    assert job.completed_at == START + timedelta(seconds=15 + 5)
    await h.advance(1000)
    assert (slow.entered, slow.left) == ([1], [1])
    assert len(h.app._running().actor.attempts) == 0


async def test_H3_a_stopped_app_does_not_wait_for_one_for_ever(start: Start) -> None:
    """Its outcome stands as it was recorded; after the restart it is a dead letter like any other."""
    slow = Slow()
    h = await start(slow.ns)
    job_id = await h.scheduler.run_now("slow:deaf", {"seconds": 30})
    await h.advance(15)
    await h.restart(kill=False)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("slow:deaf")]  # asyncio.run waits
    job = await h.scheduler.get(job_id)
    assert job is not None
    assert (job.state, job.cause) == ("failed", "timeout")
    await h.advance(30)  # what was left behind ends, and changes nothing
    assert slow.left == [1]
    assert await h.scheduler.get(job_id) == job


# ------------------------------------------------------------------ live calls and nested ones


async def test_a_live_action_that_takes_too_long_raises_timed_out(start: Start) -> None:
    """The caller gets TimedOut, a TimeoutError, at the moment; the body was canceled and has left."""
    slow = Slow()
    h = await start(slow.ns)
    calling = asyncio.ensure_future(h.call("slow:work", {"seconds": 60}))
    await asyncio.sleep(0)
    await h.advance(4.999)
    assert not calling.done()
    await h.advance(0.001)
    with pytest.raises(TimedOut, match="slow:work was still running after 5 s") as raised:
        await calling
    assert isinstance(raised.value, TimeoutError)
    assert (slow.entered, slow.left) == ([0], [0])


async def test_what_a_live_action_did_before_its_time_was_up_stands(start: Start) -> None:
    """Its mutation in the grace commits; that it returns after all does not undo the TimedOut."""
    slow = Slow()
    ns: Namespace[Any] = Namespace("live")

    @ns.action(timeout=5)
    async def tidies(ctx: ActionCtx) -> str:
        try:
            await ctx.sleep(100)
        except asyncio.CancelledError:
            await ctx.run_mutation("slow:write", {"what": "tidied"})
        return "saved"

    h = await start(slow.ns, ns)
    calling = asyncio.ensure_future(h.call("live:tidies"))
    await asyncio.sleep(0)
    await h.advance(6)
    with pytest.raises(TimedOut):
        await calling
    assert await h.call("slow:written") == ["tidied"]


async def test_the_timeout_of_an_action_that_another_runs_is_an_error_there(start: Start) -> None:
    """The outer job fails for an error when it lets that pass: its own time was not up."""
    slow = Slow()
    h = await start(slow.ns)
    await h.scheduler.run_now("slow:outer", {"seconds": 60})
    (job,) = await h.advance(6)
    assert (job.state, job.cause) == ("failed", "error")
    assert (slow.entered, slow.left) == ([0], [0])
    assert job.error == "slow:work was still running after 5 s"


async def test_a_caller_that_goes_away_takes_its_live_action_along(start: Start) -> None:
    """Canceling the caller cancels the body, with or without a timeout."""
    slow = Slow()
    h = await start(slow.ns)
    calling = asyncio.ensure_future(h.call("slow:work", {"seconds": 60}))
    await asyncio.sleep(0)
    await h.settle()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert slow.left == [0]


async def test_a_step_of_the_wall_clock_does_not_time_a_live_action_out(start: Start) -> None:
    """As for scheduled ones: its time is measured."""
    slow = Slow()
    h = await start(slow.ns)
    calling = asyncio.ensure_future(h.call("slow:work", {"seconds": 3601}))
    await h.settle()
    h.clock.step(3600 * 1_000_000)
    await h.advance(1)
    assert await calling == "done"


# ------------------------------------------------------------------ SQL


def sql() -> Namespace[Any]:
    """Return a query and mutations whose SQL has no end."""
    ns: Namespace[Any] = Namespace("sql")

    @ns.query(timeout=0.02)
    async def read(ctx: QueryCtx) -> Any:
        return await ctx.db.fetch_one(ENDLESS)

    @ns.mutation(timeout=0.02, retry=Retry(2, jitter=0))
    async def write(ctx: MutationCtx) -> Any:
        await ctx.db.execute("INSERT INTO log (what) VALUES ('half')")
        return await ctx.db.fetch_one(ENDLESS)

    @ns.mutation
    async def own(ctx: MutationCtx) -> Any:
        return await ctx.db.fetch_one(ENDLESS)

    @ns.query
    async def count(ctx: QueryCtx) -> Any:
        return await ctx.db.fetch_value("SELECT count(*) FROM log")

    return ns


async def test_sql_past_its_limit_is_interrupted(start: Start) -> None:
    """A live query or mutation raises TimeLimitExceeded; nothing of it is kept, and the next call works."""
    h = await start(sql())
    for path in ("sql:read", "sql:write"):
        with pytest.raises(TimeLimitExceeded):
            await h.call(path)
    assert await h.call("sql:count") == 0


async def test_a_scheduled_mutation_past_its_limit_fails_as_timed_out(start: Start) -> None:
    """Cause timeout, tried again as its policy says, with the function's limit or the job's own."""
    h = await start(sql())
    ids = [await h.scheduler.run_now("sql:write"), await h.scheduler.run_now("sql:own", timeout=0.02)]
    ended = {job.id: job for job in await h.advance(60)}
    assert [(ended[at].state, ended[at].cause, ended[at].attempt) for at in ids] == [
        ("failed", "timeout", 2),
        ("failed", "timeout", 1),
    ]
    assert await h.call("sql:count") == 0


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), True, "5", timedelta(0)])
async def test_a_timeout_is_a_span(start: Start, wrong: Any) -> None:
    """What is no span, or none at all, is refused where it is said."""
    slow = Slow()
    h = await start(slow.ns)
    with pytest.raises(ValueError, match="timeout"):
        await h.scheduler.run_now("slow:work", {"seconds": 1}, timeout=wrong)
    assert await h.scheduler.list().count() == 0
