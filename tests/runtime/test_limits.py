"""Limits of functions and pools, rates, hot loops and a full mailbox: what is bounded, and what is not held up by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actor_scheduler import mailbox, scheduler
from actor_scheduler.limits import CHAIN_MAX, CHAIN_US
from runtime import (
    ActionCtx,
    App,
    Call,
    FunctionError,
    InvalidArgs,
    MutationCtx,
    Namespace,
    NotRegistrable,
    Overloaded,
    Retry,
)
from runtime.testing import Harness

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = 1_000_000


class Works:
    """Functions with limits that note when they begin, and how many of each are running."""

    def __init__(self, **options: Any) -> None:
        self.app: App[Any] = App("unused.db", **options)
        self.ns: Namespace[Any] = self.app.namespace("w")
        self.live: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: list[tuple[str, float]] = []

    def action(self, name: str, **options: Any) -> None:
        """Define an action that takes its time, and may fail in its first attempts."""

        async def body(ctx: ActionCtx, *, naps: float = 0, fails: int = 0) -> None:
            self.began.append((name, (ctx.now - START).total_seconds()))
            self.live[name] += 1
            self.most[name] = max(self.most[name], self.live[name])
            try:
                if naps:
                    await ctx.sleep(naps)
                if fails and ctx.invoker.attempt <= fails:  # type: ignore[union-attr]
                    raise FunctionError("NO", "as asked")
            finally:
                self.live[name] -= 1

        body.__name__ = body.__qualname__ = name
        self.ns.action(**options)(body)

    def starts(self, name: str) -> list[float]:
        return [at for began, at in self.began if began == name]

    async def run(self, name: str, count: int = 1, **args: Any) -> None:
        await self.app.scheduler.run_many(Call(f"w:{name}", args) for _ in range(count))


# ------------------------------------------------------------------ concurrency


async def test_no_more_than_its_concurrency_run_at_once() -> None:
    """The others wait in order, and each end lets the next one in; nobody else is held up."""
    works = Works()
    works.action("two", concurrency=2)
    works.action("free")
    async with Harness(works.app) as h:
        await works.run("two", 5, naps=10)
        await works.run("free", 5, naps=10)
        await h.settle()
        assert works.live == {"two": 2, "free": 5}
        await h.advance(35)
        assert works.starts("two") == [0, 0, 10, 10, 20]
        assert works.most == {"two": 2, "free": 5}


@pytest.mark.parametrize("window", [1, 3, 1000])
async def test_a_backlog_behind_a_limit_hides_nobody(window: int) -> None:
    """A thousand jobs of a slow function, due first, must not keep one other job waiting, however small the index."""
    works = Works()
    works.app._window_max = window
    works.action("slow", concurrency=1)
    works.action("quick")
    async with Harness(works.app) as h:
        await works.run("slow", 300, naps=3600)
        await h.advance(1)
        await works.run("quick", 3)
        await h.settle()
        assert works.starts("quick") == [1, 1, 1]
        assert works.most["slow"] == 1


async def test_a_slot_is_free_while_a_job_waits_for_its_next_attempt() -> None:
    """A function that keeps failing must not hold its limit between attempts."""
    works = Works()
    works.action("one", concurrency=1, retry=Retry(3, backoff="constant", base=60, jitter=0))
    async with Harness(works.app) as h:
        await works.run("one", fails=2)
        await h.settle()
        await works.run("one", 2)
        await h.settle()
        assert works.starts("one") == [0, 0, 0]
        await h.advance(120)
        assert works.starts("one") == [0, 0, 0, 60, 120]
        assert works.most["one"] == 1


async def test_a_job_that_is_stopped_gives_its_slot_back() -> None:
    """Canceled while it runs, timed out, or failed: the next one starts at once."""
    works = Works()
    works.action("one", concurrency=1, timeout=20)
    async with Harness(works.app) as h:
        first = await h.scheduler.run_now("w:one", {"naps": 100})
        await works.run("one", naps=100)
        await works.run("one", fails=1)
        await works.run("one")
        await h.advance(5)
        assert await h.scheduler.cancel(first, running=True) is True
        await h.advance(100)
        assert works.starts("one") == [0, 5, 25, 25]
        assert works.app._running().actor.dispatch.gates.of("fn:w:one")[1].used == 0  # type: ignore[attr-defined]


async def test_the_apps_own_slots_bound_everything() -> None:
    """`max_running_actions` holds over all functions together; mutations and live calls are not bounded by it."""
    works = Works(max_running_actions=2)
    works.action("a")
    works.action("b", concurrency=5)

    @works.ns.mutation
    async def write(ctx: MutationCtx) -> None:
        works.began.append(("write", 0))

    async with Harness(works.app) as h:
        await works.run("a", 2, naps=10)
        await works.run("b", 2, naps=10)
        await works.run("write", 3)
        await h.settle()
        await h.call("w:a", {})
        assert (works.live["a"], works.live["b"], len(works.starts("write"))) == (2, 0, 3)
        await h.advance(10)
        assert works.live == {"a": 0, "b": 2}


# ------------------------------------------------------------------ pools


def pooled() -> Works:
    works = Works()
    works.app.pool("mail", 2)
    works.action("send", pool="mail")
    works.action("bulk", pool="mail", concurrency=1)
    works.action("other")
    return works


async def test_functions_of_a_pool_share_its_limit() -> None:
    """Two at once, whichever they are; a limit of the function's own holds besides."""
    works = pooled()
    async with Harness(works.app) as h:
        await works.run("bulk", 3, naps=10)
        await works.run("send", 2, naps=10)
        await h.settle()
        assert works.live == {"bulk": 1, "send": 1}
        assert [tuple(pool) for pool in h.scheduler.pools()] == [("mail", 2, 2)]
        await h.advance(60)
        assert (works.starts("bulk"), works.starts("send")) == ([0, 10, 20], [0, 10])


@pytest.mark.parametrize("kill", [True, False])
async def test_a_pools_limit_is_changed_while_the_app_runs_and_kept(kill: bool) -> None:
    """0 pauses it and lets what runs go on; the limit holds after a restart, until it is taken back."""
    works = pooled()
    async with Harness(works.app) as h:
        await works.run("send", 2, naps=10)
        await h.settle()
        await h.scheduler.set_pool("mail", 0)
        await works.run("send", 6, naps=10)
        await works.run("other")
        assert [tuple(pool) for pool in h.scheduler.pools()] == [("mail", 0, 2)]
        await h.advance(100)
        assert (len(works.starts("send")), len(works.starts("other"))) == (2, 1)
        await h.restart(kill=kill)
        assert [tuple(pool) for pool in h.scheduler.pools()] == [("mail", 0, 0)]
        await h.advance(100)
        assert works.live["send"] == 0
        await h.scheduler.set_pool("mail", 5)
        await h.settle()
        assert works.live["send"] == 5
        await h.scheduler.set_pool("mail", 1)
        await h.advance(5)
        assert works.live["send"] == 5
        await h.scheduler.set_pool("mail", None)
        assert [tuple(pool) for pool in h.scheduler.pools()] == [("mail", 2, 5)]
        await h.restart(kill=kill)
        assert [tuple(pool) for pool in h.scheduler.pools()] == [("mail", 2, 1)]


async def test_a_pool_paused_in_the_code_can_be_opened() -> None:
    """A limit of 0 is a limit; an operator's word goes before it."""
    works = Works()
    works.app.pool("later", 0)
    works.action("send", pool="later")
    async with Harness(works.app) as h:
        await works.run("send")
        await h.advance(1000)
        assert works.began == []
        await h.scheduler.set_pool("later", 1)
        await h.settle()
        assert works.starts("send") == [1000]


async def test_what_can_not_be_a_pool_is_refused() -> None:
    """Unknown, declared twice, never declared, or with a limit that is none."""
    works = pooled()
    with pytest.raises(InvalidArgs, match="declared twice"):
        works.app.pool("mail", 3)
    works.app.pool("mail", 2)
    for limit in (-1, True, 1.5, "2", 10**7):
        with pytest.raises(InvalidArgs, match="a pool's limit is a whole number"):
            works.app.pool("x", limit)  # type: ignore[arg-type]
    for name in ("", "a#b", "x" * 65, 5, "\ud800"):
        with pytest.raises(InvalidArgs, match="a pool's name"):
            works.app.pool(name, 1)  # type: ignore[arg-type]
    async with Harness(works.app) as h:
        with pytest.raises(InvalidArgs, match="there is no pool called 'male'; declared are: mail"):
            await h.scheduler.set_pool("male", 1)
        for limit in (-1, True, 1.5, "2"):
            with pytest.raises(InvalidArgs, match="from 0 \\(paused\\)"):
                await h.scheduler.set_pool("mail", limit)  # type: ignore[arg-type]
        assert [tuple(pool) for pool in h.scheduler.pools()] == [("mail", 2, 0)]
    works.action("lost", pool="nowhere")
    with pytest.raises(NotRegistrable, match="w:lost is in pool 'nowhere', which the app does not declare"):
        await works.app._start()


async def test_a_pool_that_a_release_renamed_takes_its_jobs_along(tmp_path: Any) -> None:
    """Jobs of the old release wait in the new pool; what was set for the old one is left aside."""
    db = tmp_path / "app.db"
    old = pooled()
    async with Harness(old.app, db=db) as h:
        await h.scheduler.set_pool("mail", 0)
        await old.run("send", 3, naps=10)
        await old.run("bulk", 1, naps=10)
    new = Works()
    new.app.pool("post", 1)
    new.action("send", pool="post")
    new.action("bulk")
    async with Harness(new.app, db=db) as h:
        assert new.live == {"send": 1, "bulk": 1}
        await h.advance(60)
        assert new.starts("send") == [0, 10, 20]


# ------------------------------------------------------------------ rates


async def test_a_rate_lets_so_many_start_in_any_span() -> None:
    """Three in ten seconds, however long each runs; the next when the first is ten seconds ago."""
    works = Works()
    works.action("call", rate="3/10s")
    works.action("free")
    async with Harness(works.app) as h:
        await works.run("call")
        await h.advance(4)
        await works.run("call", 6, naps=100)
        await works.run("free", 9)
        await h.advance(60)
        assert works.starts("call") == [0, 4, 4, 10, 14, 14, 20]
        assert len(works.starts("free")) == 9


@pytest.mark.parametrize("kill", [True, False])
async def test_a_rate_remembers_over_a_restart(kill: bool) -> None:
    """What started before the process ended counts: every attempt, and at any priority."""
    works = Works()
    works.action("call", rate="4/m", retry=Retry(3, backoff="constant", base=1, jitter=0))
    async with Harness(works.app) as h:
        await works.run("call", fails=2)
        await h.advance(3)
        await h.scheduler.run_now("w:call", priority=5)
        await h.settle()
        assert works.starts("call") == [0, 1, 2, 3]
        await h.restart(kill=kill, down_for=10)
        await works.run("call", 4)
        await h.advance(100)
        assert works.starts("call")[4:] == [60, 61, 62, 63]


async def test_a_clock_set_back_lets_nothing_more_through() -> None:
    """In the time that really passes, a rate holds; and it holds nothing up for longer than its period."""
    works = Works()
    works.action("call", rate="2/m")
    async with Harness(works.app) as h:
        await works.run("call", 2)
        await h.advance(10)
        h.clock.step(-3600 * SECOND)
        await works.run("call", 2)
        await h.settle()
        assert len(works.starts("call")) == 2
        await h.advance(60)
        assert len(works.starts("call")) == 4


async def test_a_rate_a_concurrency_and_a_pool_hold_together() -> None:
    """Whichever shuts last decides."""
    works = Works()
    works.app.pool("p", 3)
    works.action("call", rate="4/m", concurrency=2, pool="p")
    works.action("mate", pool="p")
    async with Harness(works.app) as h:
        await works.run("mate", 2, naps=15)
        await works.run("call", 6, naps=10)
        await h.advance(200)
        assert works.starts("call") == [0, 10, 15, 20, 60, 70]
        assert works.most == {"mate": 2, "call": 2}


# ------------------------------------------------------------------ hot loops


def looping(how: str) -> Works:
    works = Works()

    @works.ns.mutation
    async def again(ctx: MutationCtx, *, how: str) -> None:
        works.began.append(("again", 0))
        match how:
            case "many":
                await ctx.scheduler.run_many([Call("w:again", {"how": how})])
            case "key":
                await ctx.scheduler.run_now("w:again", {"how": how}, key="loop")
            case "past":
                await ctx.scheduler.run_at(ctx.now - timedelta(hours=1), "w:again", {"how": how})
            case "action":
                await ctx.scheduler.run_now("w:act", {"how": how})
            case _:
                await ctx.scheduler.run_now("w:again", {"how": how})

    @works.ns.action
    async def act(ctx: ActionCtx, *, how: str) -> None:
        if how == "nested":
            await ctx.run_mutation(nested, how=how)
        else:
            await ctx.scheduler.run_now("w:again", {"how": how})

    @works.ns.mutation
    async def nested(ctx: MutationCtx, *, how: str) -> None:
        works.began.append(("again", 0))
        await ctx.scheduler.run_now("w:act", {"how": how})

    works.action("plain")
    return works


@pytest.mark.parametrize("how", ["now", "many", "key", "past", "action", "nested"])
async def test_a_job_that_schedules_itself_for_now_does_not_run_hot(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After CHAIN_MAX links in a row each waits CHAIN_US, whichever way it is scheduled, and after a restart, too."""
    monkeypatch.setattr(scheduler, "CHAIN_MAX", 100)
    works = looping(how)
    links = 100 // (2 if how == "action" else 1)
    per_second = SECOND // CHAIN_US // (2 if how == "action" else 1)
    async with Harness(works.app) as h:
        await h.scheduler.run_now("w:act" if how == "nested" else "w:again", {"how": how})
        await h.settle()
        assert len(works.began) == links + 1
        await h.advance(1)
        assert abs(len(works.began) - (links + 1 + per_second)) <= 1
        await h.restart(kill=False)
        began = len(works.began)
        await h.advance(1)
        assert abs(len(works.began) - began - per_second) <= 1


async def test_others_run_beside_a_hot_loop() -> None:
    """Jobs due now start at once, not after the loop has come to its limit."""
    works = looping("now")
    async with Harness(works.app) as h:
        await h.scheduler.run_now("w:again", {"how": "now"})
        plain = asyncio.ensure_future(h.scheduler.run_now("w:plain"))
        while not works.starts("plain"):
            await asyncio.sleep(0)
        await plain
        assert len(works.starts("again")) < CHAIN_MAX // 10
        await h.settle()


async def test_a_chain_with_pauses_is_no_hot_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that schedules itself for later, for ever, keeps its time to the microsecond."""
    monkeypatch.setattr(scheduler, "CHAIN_MAX", 100)
    works = Works()

    @works.ns.mutation
    async def tick(ctx: MutationCtx) -> None:
        works.began.append(("tick", (ctx.now - START).total_seconds()))
        await ctx.scheduler.run_after(1, "w:tick")

    async with Harness(works.app) as h:
        await h.scheduler.run_now("w:tick")
        await h.advance(150)
        assert works.starts("tick") == [float(at) for at in range(151)]


async def test_slow_failing_looping_and_ordinary_jobs_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind keeps to itself: none of the others delays an ordinary job by a moment."""
    monkeypatch.setattr(scheduler, "CHAIN_MAX", 100)
    works = looping("now")
    works.action("slow", concurrency=2)
    works.action("fails", retry=Retry(50, backoff="constant", base=1, jitter=0))
    works.action("limited", rate="1/h")
    async with Harness(works.app) as h:
        await h.scheduler.run_now("w:again", {"how": "now"})
        await works.run("slow", 50, naps=3600)
        await works.run("fails", 5, fails=99)
        await works.run("limited", 20)
        await h.scheduler.run_many(Call("w:plain").after(at) for at in range(20))
        await h.advance(20)
        assert works.starts("plain") == [float(at) for at in range(20)]
        assert (works.live["slow"], len(works.starts("fails")), len(works.starts("limited"))) == (2, 5 * 21, 1)


# ------------------------------------------------------------------ the mailbox


async def test_a_full_mailbox_says_so_and_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound a call is refused, definitely not stored; those before stand, and outcomes are never refused."""
    monkeypatch.setattr(mailbox, "MAILBOX_MAX", 5)
    works = Works()
    works.action("plain")
    async with Harness(works.app) as h:
        await works.run("plain", 20, naps=5)
        await h.settle()
        calls = [h.scheduler.run_now("w:plain") for _ in range(12)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [str] * 5 + [Overloaded] * 7
        assert str(answers[-1]) == "5 commands are waiting for the database; nothing was stored, try again later"
        assert await h.scheduler.list().count() == 25
        await h.advance(5)
        assert await h.scheduler.list(state="success").count() == 25
        await works.run("plain")


async def test_withdrawn_calls_take_no_place_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that gave up before its turn leaves nothing behind."""
    works = Works()
    works.action("plain")
    async with Harness(works.app) as h:
        calls = [asyncio.ensure_future(h.scheduler.run_now("w:plain")) for _ in range(5)]
        await asyncio.sleep(0)
        for call in calls[1:4]:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(answer, str) for answer in answers] == [True, False, False, False, True]
        assert await h.scheduler.list().count() == 2
