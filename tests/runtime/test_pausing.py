"""Pausing everything: what stops, what goes on, and that it holds until somebody resumes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runtime import ActionCtx, App, Call, FunctionError, InvalidArgs, MutationCtx, NotStarted, QueryCtx, Retry
from runtime.testing import Harness

START = datetime(2026, 1, 1, tzinfo=UTC)


class Work:
    """Functions that note when they begin."""

    def __init__(self) -> None:
        self.app: App[Any] = App("unused.db")
        ns = self.app.namespace("w")
        self.began: list[tuple[Any, float]] = []
        self.ended: list[Any] = []

        @ns.action
        async def act(ctx: ActionCtx, *, n: Any, naps: float = 0, fails: int = 0, then: Any = None) -> None:
            self.began.append((n, (ctx.now - START).total_seconds()))
            if naps:
                await ctx.sleep(naps)
            if then is not None:
                await ctx.scheduler.run_now("w:write", {"n": then})
            if fails and ctx.invoker.attempt <= fails:  # type: ignore[union-attr]
                raise FunctionError("NO", "as asked")
            self.ended.append(n)

        @ns.mutation
        async def write(ctx: MutationCtx, *, n: Any) -> Any:
            self.began.append((n, (ctx.now - START).total_seconds()))
            return n

        @ns.query
        async def read(ctx: QueryCtx, *, n: Any) -> Any:
            return n


async def test_nothing_starts_while_everything_is_paused() -> None:
    """Neither mutations nor actions; all of it starts in order when somebody resumes."""
    work = Work()
    async with Harness(work.app) as h:
        await h.scheduler.pause("maintenance, ann")
        assert work.app.scheduler.paused == "maintenance, ann"
        await h.scheduler.run_many(Call("w:write" if n % 2 else "w:act", {"n": n}).after(10 - n) for n in range(6))
        await h.advance(100)
        assert work.began == []
        await h.scheduler.resume()
        assert work.app.scheduler.paused is None
        await h.settle()
        for parity in (0, 1):
            assert [n for n, _ in work.began if n % 2 == parity] == [n for n in range(5, -1, -1) if n % 2 == parity]
        assert {at for _, at in work.began} == {100}


@pytest.mark.parametrize("kill", [True, False])
async def test_a_pause_holds_over_a_restart(kill: bool) -> None:
    """Whoever restarts the process must not undo what an operator did; so does the resume."""
    work = Work()
    async with Harness(work.app) as h:
        await h.scheduler.run_after(5, "w:act", {"n": 1})
        await h.scheduler.pause()
        assert work.app.scheduler.paused == "paused"
        await h.restart(kill=kill, down_for=10)
        assert work.app.scheduler.paused == "paused"
        await h.advance(100)
        assert work.began == []
        await h.scheduler.resume()
        await h.restart(kill=kill)
        assert work.app.scheduler.paused is None
        assert [n for n, _ in work.began] == [1]


async def test_what_runs_goes_on_and_live_calls_are_served() -> None:
    """A pause stops starts: an action that runs ends, what it schedules waits; calls, cancels and looks are served."""
    work = Work()
    async with Harness(work.app) as h:
        await h.scheduler.run_now("w:act", {"n": "runs", "naps": 10, "then": "child"})
        await h.settle()
        await h.scheduler.pause("why")
        await h.advance(10)
        assert work.ended == ["runs"]
        assert await h.call("w:read", {"n": 1}) == 1
        assert await h.call("w:write", {"n": "live"}) == "live"
        await h.call("w:act", {"n": "live too"})
        (child,) = await h.pending()
        assert await h.scheduler.cancel(child.id) is True
        await h.scheduler.resume()
        await h.settle()
        assert [n for n, _ in work.began] == ["runs", "live", "live too"]


async def test_attempts_that_follow_wait_too() -> None:
    """A retry that falls due in a pause starts after it, and a job tried again by hand as well."""
    work = Work()
    async with Harness(work.app) as h:
        again = Retry(2, backoff="constant", base=5, jitter=0)
        job_id = await h.scheduler.run_now("w:act", {"n": "x", "fails": 2}, retry=again)
        await h.settle()
        await h.scheduler.pause()
        await h.advance(60)
        await h.scheduler.resume()
        await h.settle()
        assert work.began == [("x", 0), ("x", 60)]
        await h.scheduler.pause()
        assert await h.scheduler.retry(job_id) is True
        await h.advance(60)
        await h.scheduler.resume()
        await h.settle()
        assert work.began[2:] == [("x", 120)]


async def test_pausing_twice_keeps_the_last_note_and_one_resume_ends_it() -> None:
    """A pause is a switch, not a count; resuming what is not paused is harmless."""
    work = Work()
    async with Harness(work.app) as h:
        await h.scheduler.resume()
        await h.scheduler.pause("one")
        await h.scheduler.pause("two")
        assert work.app.scheduler.paused == "two"
        await h.scheduler.resume()
        await h.scheduler.run_now("w:act", {"n": 1})
        await h.settle()
        assert len(work.began) == 1


async def test_a_paused_app_makes_no_wake_ups_for_what_is_due() -> None:
    """Nothing that waits for somebody's word may keep the process busy."""
    work = Work()
    async with Harness(work.app) as h:
        await h.scheduler.run_many(Call("w:act", {"n": n}).after(n) for n in range(50))
        await h.scheduler.pause()
        await h.settle()
        actor = work.app._running().actor
        assert actor._alarm.armed_at_us is None
        turns = 0
        apply = actor._store.apply

        async def counting(*args: Any) -> Any:
            nonlocal turns
            turns += 1
            return await apply(*args)

        actor._store.apply = counting  # type: ignore[method-assign]
        await h.advance(3600)
        assert turns == 0
        await h.scheduler.resume()
        await h.settle()
        assert len(work.began) == 50


async def test_a_pause_and_a_paused_pool_do_not_undo_each_other() -> None:
    """Resuming everything leaves a paused pool paused, and the other way round."""
    work = Work()
    work.app.pool("mail", 1)

    @work.app.namespace("m").action(pool="mail")
    async def send(ctx: ActionCtx) -> None:
        work.began.append(("send", 0))

    async with Harness(work.app) as h:
        await h.scheduler.set_pool("mail", 0)
        await h.scheduler.pause()
        await h.scheduler.run_now("m:send")
        await h.scheduler.resume()
        await h.settle()
        assert work.began == []
        await h.scheduler.pause()
        await h.scheduler.set_pool("mail", 1)
        await h.settle()
        assert work.began == []
        await h.scheduler.resume()
        await h.settle()
        assert work.began == [("send", 0)]


async def test_a_note_is_text_and_the_app_must_run() -> None:
    """What can't be stored is refused, and nothing is paused; before the start there is nothing to ask."""
    work = Work()
    with pytest.raises(NotStarted):
        print(work.app.scheduler.paused)
    with pytest.raises(NotStarted):
        await work.app.scheduler.pause()
    async with Harness(work.app) as h:
        for note in (5, None, "x" * 1001, "\ud800"):
            with pytest.raises(InvalidArgs, match="a note is a str of at most 1000 characters"):
                await h.scheduler.pause(note)  # type: ignore[arg-type]
        assert work.app.scheduler.paused is None
