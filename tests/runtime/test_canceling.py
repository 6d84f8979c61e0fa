"""Canceling: what has not begun never begins, what runs is let finish or stopped, and its children are never born alive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import ActionCtx, App, MutationCtx, Namespace, Retry
from runtime.testing import Harness, simulate

if TYPE_CHECKING:
    from actor_scheduler.model import Job
    from tests.runtime.conftest import Start

LAWS = settings(max_examples=25, deadline=None, derandomize=True, database=None)


class Family:
    """Actions that schedule children in every way there is, after a pause, and then end as they are told."""

    def __init__(self) -> None:
        self.ns: Namespace[Any] = Namespace("fam")
        self.ran: list[str] = []
        self.attempts: list[int] = []
        self.left = 0
        self.children: dict[str, str] = {}

        @self.ns.mutation
        async def child(ctx: MutationCtx, *, name: str) -> None:
            self.ran.append(name)

        @self.ns.mutation
        async def by_mutation(ctx: MutationCtx) -> str:
            return await ctx.scheduler.after(1).call(child, name="mutation")

        @self.ns.action
        async def by_action(ctx: ActionCtx) -> str:
            return await ctx.scheduler.after(1).call(child, name="action")

        @self.ns.action(retry=Retry(5, jitter=0, base=1))
        async def parent(ctx: ActionCtx, *, fails: bool = False) -> str:
            self.attempts.append(ctx.invoker.attempt)  # type: ignore[union-attr]
            if ctx.invoker.attempt == 1:  # type: ignore[union-attr]
                self.children["before"] = await ctx.scheduler.after(100).call(child, name="before")
            try:
                await ctx.sleep(10)
            finally:
                self.left += 1
                await self.schedule(ctx, child, by_mutation, by_action)
            if fails:
                raise LookupError("as told")
            return "done"

    async def schedule(self, ctx: ActionCtx, child: Any, by_mutation: Any, by_action: Any) -> None:
        """Schedule a child in every way an action can."""
        made = self.children
        made["after"] = await ctx.scheduler.after(1).call(child, name="after")
        made["now"] = await ctx.scheduler.now().call(child, name="now")
        made["key"] = await ctx.scheduler.now(key="k").call(child, name="key")
        made["lane"] = await ctx.scheduler.now(lane="l", priority=5).call(child, name="lane")
        made["once"] = await ctx.scheduler.now(idempotency_key="i").call(child, name="once")
        made["many"], made["more"] = await ctx.scheduler.run_many([child.bind(name="many"), child.bind(name="more")])
        made["mutation"] = await ctx.run_mutation(by_mutation)
        made["action"] = await ctx.run_action(by_action)


async def get(h: Harness[Any], job_id: str) -> Job:
    """Return a job that exists."""
    job = await h.scheduler.get(job_id)
    assert job is not None
    return job


# ------------------------------------------------------------------ a running action, let finish


@pytest.mark.parametrize("fails", [False, True])
async def test_a_canceled_action_finishes_and_is_not_retried(start: Start, fails: bool) -> None:
    """False: it had started. It goes on to its end; a failure that would be retried ends as canceled."""
    family = Family()
    h = await start(family.ns)
    job_id = await h.scheduler.run_now("fam:parent", {"fails": fails})
    await h.advance(5)
    assert await h.scheduler.cancel(job_id) is False
    assert await h.scheduler.cancel(job_id) is False
    assert (await get(h, job_id)).state == "in_progress"
    await h.advance(50)
    job = await get(h, job_id)
    assert (job.state, job.result) == (("canceled", None) if fails else ("success", "done"))
    assert family.attempts == [1]


async def test_the_children_of_a_canceled_action_are_born_canceled(start: Start) -> None:
    """Whatever way they are scheduled in, by itself or by what it runs; those before, and those of others, live."""
    family = Family()
    h = await start(family.ns)
    canceled = await h.scheduler.run_now("fam:parent")
    await h.advance(5)
    assert await h.scheduler.cancel(canceled) is False
    await h.advance(50)
    made = dict(family.children)
    assert {name: (await get(h, at)).state for name, at in made.items() if name != "before"} == {
        name: "canceled" for name in made if name != "before"
    }
    assert family.ran == []
    family.children.clear()
    await h.scheduler.run_now("fam:parent")
    await h.advance(200)
    # Its idempotency key stands for the row there is, in any state; its key was free again.
    assert sorted(set(made) - set(family.ran)) == ["once"]
    assert family.children["once"] == made["once"]


async def test_a_rolled_back_cancel_is_none(start: Start) -> None:
    """A mutation that marks a running action and then fails has not marked it: it is retried, its children run."""
    family = Family()
    ids: dict[str, str] = {}

    ns: Namespace[Any] = Namespace("c")

    @ns.mutation
    async def cancels(ctx: MutationCtx, *, nested: bool) -> None:
        if nested:
            try:
                await ctx.run_mutation("c:cancels", {"nested": False})
            except LookupError:
                return
        assert await ctx.scheduler.cancel(ids["parent"], running=True) is True
        raise LookupError

    h = await start(family.ns, ns)
    ids["parent"] = await h.scheduler.run_now("fam:parent", {"fails": True})
    await h.advance(5)
    with pytest.raises(LookupError):
        await h.call("c:cancels", {"nested": False})
    await h.call("c:cancels", {"nested": True})
    await h.advance(5.5)
    assert (await get(h, ids["parent"])).state == "pending"
    await h.advance(2)
    assert family.attempts == [1, 2]
    assert "now" in family.ran


@pytest.mark.parametrize("kill", [True, False])
@pytest.mark.parametrize("running", [True, False])
async def test_after_a_crash_a_canceled_action_is_not_retried(start: Start, kill: bool, running: bool) -> None:
    """The mark is durable: the next boot ends it as canceled, though its policy has attempts left."""
    family = Family()
    h = await start(family.ns)
    job_id = await h.scheduler.run_now("fam:parent")
    other = await h.scheduler.run_now("fam:parent")
    await h.advance(5)
    asking = asyncio.ensure_future(h.scheduler.cancel(job_id, running=running))
    if not running:
        await asking
    await h.restart(kill=kill)
    await asyncio.gather(asking, return_exceptions=True)
    if running and (await get(h, job_id)).state == "pending":
        return  # the process died before the cancel was accepted: nobody was told otherwise
    assert (await get(h, job_id)).state == "canceled"
    await h.advance(60)
    assert (await get(h, job_id)).state == "canceled"
    assert (await get(h, other)).state == "success"
    assert family.attempts.count(2) == 1


# ------------------------------------------------------------------ a running action, stopped


@pytest.mark.parametrize("by_key", [False, True])
async def test_a_running_action_can_be_stopped(start: Start, by_key: bool) -> None:
    """True: its task is canceled, its `finally` runs with its ctx, it ends canceled, and its key is free."""
    family = Family()
    h = await start(family.ns)
    job_id = await h.scheduler.run_now("fam:parent", key="parent")
    await h.advance(5)
    if by_key:
        assert await h.scheduler.cancel(key="parent", running=True) is True
    else:
        assert await h.scheduler.cancel(job_id, running=True) is True
    (ended, *children) = await h.settle()
    assert (ended.id, ended.state, ended.cause, ended.error) == (job_id, "canceled", None, None)
    assert (family.attempts, family.left) == ([1], 1)
    assert {child.state for child in children} == {"canceled"}
    assert await h.scheduler.cancel(job_id, running=True) is True
    assert await h.scheduler.retry(job_id) is False
    assert await h.scheduler.run_now("fam:parent", key="parent", on_conflict="error") != job_id
    await h.settle()
    assert len(h.app._running().actor.attempts) == 1


async def test_stopping_what_does_not_run_is_a_plain_cancel(start: Start) -> None:
    """A pending job never starts; one that ended is False, unless it was canceled before."""
    family = Family()
    h = await start(family.ns)
    pending = await h.scheduler.run_after(60, "fam:parent")
    done = await h.scheduler.run_now("fam:child", {"name": "done"})
    await h.settle()
    assert await h.scheduler.cancel(pending, running=True) is True
    assert await h.scheduler.cancel(done, running=True) is False
    assert await h.scheduler.cancel("0" * 32, running=True) is False
    assert await h.scheduler.cancel(key="nobody", running=True) is False
    await h.advance(100)
    assert family.attempts == []


async def test_an_action_may_be_stopped_in_the_turn_that_claims_it(start: Start) -> None:
    """A mutation due right behind it cancels it before its task took a step: it ends at once, its slot is free."""
    family = Family()
    ids: dict[str, str] = {}

    @family.ns.mutation
    async def stop(ctx: MutationCtx) -> bool:
        return await ctx.scheduler.cancel(ids["parent"], running=True)

    h = await start(family.ns)
    ids["parent"] = await h.scheduler.run_after(1, "fam:parent")
    stopping = await h.scheduler.run_after(1, "fam:stop")
    await h.advance(1)
    assert (await get(h, stopping)).result is True
    assert (await get(h, ids["parent"])).state == "canceled"
    assert len(h.app._running().actor.attempts) == 0
    await h.advance(60)
    assert family.attempts == []


@pytest.mark.parametrize("passes", range(8))
@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancel_beside_an_end(start: Start, passes: int, running: bool, fails: bool) -> None:
    """However the cancel falls together with the end of the attempt, there is one outcome, and no attempt after it."""
    family = Family()
    h = await start(family.ns)
    job_id = await h.scheduler.run_now("fam:parent", {"fails": fails})
    await h.advance(9.999)
    h.clock.move_to(h.clock.now_us() + 1_000)
    for _ in range(passes):
        await asyncio.sleep(0)
    answer = await h.scheduler.cancel(job_id, running=running)
    before = list(family.attempts)
    await h.advance(60)
    job = await get(h, job_id)
    if fails:
        assert job.state == "canceled"  # it was running, or waiting for its second attempt
    else:
        assert job.state in {"success", "canceled"}
    assert answer in ({True, False} if running or fails else {False})
    assert family.attempts == before == [1]
    assert len(h.app._running().actor.attempts) == 0


# ------------------------------------------------------------------ oneself


@pytest.mark.parametrize("running", [False, True])
async def test_an_action_may_cancel_itself(start: Start, running: bool) -> None:
    """Without `running` it goes on and is not retried; with it, it is stopped at its next await."""
    seen: list[Any] = []
    ns: Namespace[Any] = Namespace("self")

    @ns.action(retry=3)
    async def act(ctx: ActionCtx) -> None:
        own = ctx.invoker.job_id  # type: ignore[union-attr]
        seen.append(await ctx.scheduler.cancel(own, running=running))
        await ctx.sleep(1)
        seen.append("slept")
        raise LookupError

    h = await start(ns)
    job_id = await h.scheduler.run_now("self:act")
    await h.advance(60)
    assert (await get(h, job_id)).state == "canceled"
    # Stopped while it waited for the answer, or right after it.
    assert seen in ([[], [True]] if running else [[False, "slept"]])


async def test_a_mutation_that_cancels_itself_harms_nobody(start: Start) -> None:
    """By id or by key, directly or through another mutation: False, and it ends as it would have."""
    answers: list[bool] = []
    ns: Namespace[Any] = Namespace("self")

    @ns.mutation
    async def inner(ctx: MutationCtx, *, own: str) -> bool:
        return await ctx.scheduler.cancel(own, running=True)

    @ns.mutation
    async def act(ctx: MutationCtx) -> None:
        own = ctx.invoker.job_id  # type: ignore[union-attr]
        answers.append(await ctx.scheduler.cancel(own))
        answers.append(await ctx.scheduler.cancel(key="k", running=True))
        answers.append(await ctx.run_mutation(inner, own=own))
        await ctx.db.execute("INSERT INTO log (what) VALUES ('kept')")
        await ctx.scheduler.after(1).call(last)

    @ns.mutation
    async def last(ctx: MutationCtx) -> None:
        answers.append(True)

    h = await start(ns)
    job_id = await h.scheduler.run_now("self:act", key="k")
    await h.advance(2)
    assert (await get(h, job_id)).state == "success"
    assert answers == [False, False, False, True]


# ------------------------------------------------------------------ never overtaken


class Failing:
    """A job of either kind that always fails, and counts its starts."""

    def __init__(self) -> None:
        self.ns: Namespace[Any] = Namespace("f")
        self.starts = 0
        policy = Retry(100, jitter=0, base=1, factor=1)

        @self.ns.action(retry=policy)
        async def action(ctx: ActionCtx) -> None:
            self.starts += 1
            raise LookupError

        @self.ns.mutation(retry=policy)
        async def mutation(ctx: MutationCtx) -> None:
            self.starts += 1
            raise LookupError


@LAWS
@given(
    kind=st.sampled_from(["action", "mutation"]),
    others=st.lists(st.sampled_from(["retry", "cancel", "running", "due", "sweep", "replace", "pass"]), max_size=6),
    at=st.integers(min_value=0, max_value=6),
    wait=st.sampled_from([0, 0.5, 1.0, 3.0]),
    crash=st.booleans(),
)
def test_S8_after_an_acknowledged_cancel_nothing_starts(
    kind: str, others: list[str], at: int, wait: float, crash: bool
) -> None:
    """S8: among due copies, retries, requeues, sweeps and crashes, once True was answered the job never starts."""
    failing = Failing()
    path = f"f:{kind}"

    async def scenario(h: Harness[Any]) -> None:
        job_id = await h.scheduler.run_now(path, key="k")
        await h.advance(wait)

        async def step(what: str) -> Any:
            if what == "retry":
                return await h.scheduler.retry(job_id)
            if what in {"cancel", "running"}:
                return await h.scheduler.cancel(job_id, running=what == "running")
            if what == "sweep":
                return await h.scheduler.list().retry()
            if what == "replace":
                return await h.scheduler.run_after(1, path, key="k", on_conflict="keep")
            if what == "due":
                h.clock.move_to(h.clock.now_us() + 1_000_000)
            return await asyncio.sleep(0)

        steps = [*others[:at], "cancel", *others[at:]]
        answers = await asyncio.gather(*(step(what) for what in steps), return_exceptions=True)
        await h.settle()
        job = await get(h, job_id)
        starts = job.attempt
        told = any(answer is True for what, answer in zip(steps, answers, strict=True) if what in {"cancel", "running"})
        if told:
            assert job.state == "canceled"
        if crash:
            await h.restart()
        await h.advance(300)
        if told:
            after = await get(h, job_id)
            assert (after.state, after.attempt) == ("canceled", starts)

    simulate(App("unused.db", namespaces=[failing.ns]), scenario)


# ------------------------------------------------------------------ known


async def test_the_children_of_an_action_that_does_not_listen_are_born_canceled(start: Start) -> None:
    """Also after the grace: it was canceled, and what it schedules from then on must not run."""
    ns: Namespace[Any] = Namespace("deaf")
    children: list[str] = []

    @ns.action
    async def act(ctx: ActionCtx) -> None:
        for _ in range(2):
            try:
                await ctx.sleep(60)
                break
            except asyncio.CancelledError:
                continue
        children.append(await ctx.scheduler.run_after(60, "deaf:child"))

    @ns.mutation
    async def child(ctx: MutationCtx) -> None:
        pass

    h = await start(ns)
    job_id = await h.scheduler.run_now("deaf:act")
    await h.settle()
    assert await h.scheduler.cancel(job_id, running=True) is True
    await h.advance(30)
    assert (await get(h, job_id)).state == "canceled"
    await h.advance(60)
    assert (await get(h, children[0])).state == "canceled"


async def test_a_job_that_is_born_canceled_replaces_nothing(start: Start) -> None:
    """What a canceled action schedules must not take away what others have scheduled."""
    family = Family()
    ns: Namespace[Any] = Namespace("key")

    @ns.action
    async def act(ctx: ActionCtx) -> None:
        await ctx.sleep(5)
        await ctx.scheduler.run_after(60, "fam:child", {"name": "its"}, key="k", on_conflict="replace")

    h = await start(ns, family.ns)
    theirs = await h.scheduler.run_after(60, "fam:child", {"name": "theirs"}, key="k")
    job_id = await h.scheduler.run_now("key:act")
    await h.settle()
    assert await h.scheduler.cancel(job_id) is False
    await h.advance(10)
    assert (await get(h, theirs)).state == "pending"
