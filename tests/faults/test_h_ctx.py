"""H4, H7, H8: a ctx used where or when it may not be, the app's own handles inside a mutation, and too much work."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import ActorSchedulerError, ContextClosed, ForeignAwait, LimitExceeded, TimeLimitExceeded
from actor_scheduler.limits import CALL_JOBS_MAX, SECOND_US, TURN_DUE_MAX
from runtime import ActionCtx, Call, MutationCtx, Namespace, QueryCtx
from tests.faults.injector import rows
from tests.faults.rig import make

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path


def step(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Carry a ctx call out without a loop, and return its answer."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it suspended")


LATE: dict[str, Callable[[Any], Any]] = {
    "db.execute": lambda ctx: ctx.db.execute("INSERT INTO ledger (who) VALUES ('late')"),
    "db.fetch_all": lambda ctx: ctx.db.fetch_all("SELECT 1"),
    "scheduler.run_now": lambda ctx: ctx.scheduler.run_now("l:put", {"who": "late"}),
    "scheduler.cancel": lambda ctx: ctx.scheduler.cancel(key="k"),
    "scheduler.get": lambda ctx: ctx.scheduler.get("0" * 32),
    "run_mutation": lambda ctx: ctx.run_mutation("l:put", {"who": "late"}),
    "run_query": lambda ctx: ctx.run_query("l:names"),
}


@pytest.mark.parametrize("used_before", [False, True])
@pytest.mark.parametrize("what", LATE)
async def test_H4_the_ctx_of_an_ended_mutation_is_closed(path: Path, db: Any, what: str, used_before: bool) -> None:
    """Whatever is asked of it after the end raises ContextClosed, and nothing is written."""
    kept: list[Any] = []
    ns: Namespace[Any] = Namespace("k")

    @ns.mutation
    async def keep(ctx: MutationCtx[Any]) -> None:
        if used_before:
            await ctx.db.fetch_one("SELECT 1")
            await ctx.scheduler.cancel(key="k")
        kept.append(ctx)

    async with make(path, ns, db=db) as rig:
        await rig.call("k:keep")
        with pytest.raises(ContextClosed):
            step(LATE[what](kept[0]))
        await rig.rest()
        assert await rig.call("l:names") == []
        assert await rig.app.scheduler.list().count() == 0


async def test_H4_the_ctx_of_an_ended_query_is_closed(path: Path, db: Any) -> None:
    """Its snapshot is gone: a late read is refused, and the reader is not harmed."""
    kept: list[Any] = []
    ns: Namespace[Any] = Namespace("k")

    @ns.query
    async def keep(ctx: QueryCtx[Any]) -> None:
        kept.append((ctx, ctx.db))

    async with make(path, ns, db=db) as rig:
        await rig.call("k:keep")
        with pytest.raises(ContextClosed):
            step(kept[0][1].fetch_all("SELECT 1"))
        with pytest.raises(ContextClosed):
            kept[0][0].run_query("l:names")
        assert await rig.call("l:names") == []


@pytest.mark.parametrize("scheduled", [False, True])
async def test_H4_a_child_task_that_outlives_its_action_is_refused(path: Path, scheduled: bool) -> None:
    """asyncio.create_task with the ctx: once the action has ended, the child's calls raise and nothing is stored."""
    go = asyncio.Event()
    children: list[asyncio.Task[Any]] = []
    ns: Namespace[Any] = Namespace("k")

    @ns.action
    async def parent(ctx: ActionCtx[Any]) -> None:
        async def child() -> list[Any]:
            await go.wait()
            late = [
                lambda: ctx.run_mutation("l:put", {"who": "late"}),
                lambda: ctx.run_query("l:names"),
                lambda: ctx.sleep(1),
                lambda: ctx.scheduler.run_now("l:put", {"who": "late"}),
            ]
            answers = []
            for call in late:
                try:
                    answers.append(await call())
                except ContextClosed as error:
                    answers.append(error)
            return answers

        children.append(asyncio.create_task(child()))

    async with make(path, ns) as rig:
        await (rig.app.scheduler.run_now("k:parent") if scheduled else rig.call("k:parent"))
        await rig.rest()
        go.set()
        assert [type(answer) for answer in await children[0]] == [ContextClosed] * 4
        assert await rig.call("l:names") == []


@pytest.mark.parametrize("kind", ["query", "mutation"])
async def test_H7_a_ctx_can_not_be_used_from_another_thread(path: Path, db: Any, kind: str) -> None:
    """A thread started inside the body gets ContextClosed; the body itself goes on and commits."""
    ns: Namespace[Any] = Namespace("t")
    got: list[BaseException] = []

    def from_elsewhere(ctx: Any) -> None:
        def use() -> None:
            try:
                step(ctx.db.fetch_all("INSERT INTO ledger (who) VALUES ('elsewhere') RETURNING n"))
            except Exception as error:
                got.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    @ns.mutation
    async def mutation(ctx: MutationCtx[Any]) -> str:
        from_elsewhere(ctx)
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('here')")
        return "done"

    @ns.query
    async def query(ctx: QueryCtx[Any]) -> str:
        from_elsewhere(ctx)
        return "done"

    async with make(path, ns, db=db) as rig:
        assert await rig.call(f"t:{kind}") == "done"
        assert [type(error) for error in got] == [ContextClosed]
        assert await rig.call("l:names") == (["here"] if kind == "mutation" else [])


FOREIGN: dict[str, Callable[[Any], Any]] = {
    "asyncio.run": lambda rig: asyncio.run(unstarted()),
    "asyncio.sleep": lambda rig: asyncio.sleep(1),
    "asyncio.sleep(0)": lambda rig: asyncio.sleep(0),
    "create_task": lambda rig: asyncio.get_running_loop().create_task(unstarted()),
    "a future": lambda rig: asyncio.get_running_loop().create_future(),
    "app.call of a mutation": lambda rig: rig.app.call("l:put", {"who": "inner"}),
    "app.call of a query": lambda rig: rig.app.call("l:names"),
    "app.scheduler.run_now": lambda rig: rig.app.scheduler.run_now("l:put", {"who": "inner"}),
    "app.scheduler.run_many": lambda rig: rig.app.scheduler.run_many([Call("l:put", {"who": "inner"})]),
    "app.scheduler.cancel": lambda rig: rig.app.scheduler.cancel(key="k"),
    "app.scheduler.get": lambda rig: rig.app.scheduler.get("0" * 32),
    "app.scheduler.wait": lambda rig: rig.app.scheduler.wait("0" * 32),
    "app.idempotent": lambda rig: rig.app.idempotent("k").call("l:put", {"who": "inner"}),
}


async def nothing() -> None:
    """Do nothing."""


made: list[Any] = []


def unstarted() -> Any:
    """Return a coroutine that whoever is refused leaves behind: closed at the end, not whenever it is collected."""
    made.append(nothing())
    return made[-1]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("what", FOREIGN)
async def test_H7_a_mutation_can_not_use_the_loop_or_the_app(path: Path, db: Any, what: str, scheduled: bool) -> None:
    """The loop and the app's own handles are refused inside a mutation, at once and with nothing kept."""
    ns: Namespace[Any] = Namespace("f")

    @ns.mutation
    async def foreign(ctx: MutationCtx[Any]) -> None:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('half')")
        result = FOREIGN[what](rig)
        if result is not None:
            await result

    rig = make(path, ns, db=db)
    async with rig:
        if scheduled:
            job_id = await rig.app.scheduler.run_now("f:foreign")
            await rig.rest()
            assert (await rig.job(job_id)).state == "failed"
        else:
            failed = await rig.attempt("f:foreign")
            assert isinstance(failed, ActorSchedulerError if what != "asyncio.run" else RuntimeError)
        await rig.rest()
        assert await rig.call("l:names") == []
        assert rig.actor.broken is None
    while made:
        made.pop().close()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_H7_a_mutation_that_swallows_a_foreign_await_keeps_nothing(path: Path) -> None:
    """It is refused even when it catches every error and writes on in a finally block."""
    ns: Namespace[Any] = Namespace("f")

    @ns.mutation
    async def stubborn(ctx: MutationCtx[Any]) -> str:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('before')")
        try:
            await asyncio.sleep(1)
        except BaseException:  # what a careless handler does
            pass
        finally:
            try:
                await ctx.db.execute("INSERT INTO ledger (who) VALUES ('after')")
            except BaseException:  # the same
                pass
        return "done"

    async with make(path, ns) as rig:
        mate, failed = await rig.together(rig.call("l:put", who="mate"), rig.call("f:stubborn"))
        assert mate == "mate"
        assert isinstance(failed, ForeignAwait)
        assert await rig.call("l:names") == ["mate"]


async def test_H8_a_mutation_that_schedules_itself_for_now_starves_nobody(path: Path) -> None:
    """Of a job that begets itself at once for ever, other due jobs and live calls wait for a few turns only."""
    ns: Namespace[Any] = Namespace("s")
    runs = 0

    @ns.mutation
    async def again(ctx: MutationCtx[Any]) -> None:
        nonlocal runs
        runs += 1
        if runs < 2_000:  # for ever, as far as this test can tell
            await ctx.scheduler.run_now("s:again")

    async with make(path, ns) as rig:
        ids = [await rig.app.scheduler.run_after(1, "l:put", {"who": f"{at}"}) for at in range(20)]
        await rig.app.scheduler.run_now("s:again")
        rig.clock.move_to(rig.clock.now_us() + SECOND_US)
        began = runs
        assert await rig.call("l:put", who="live") == "live"
        assert runs - began <= 5
        while (await rig.job(ids[-1])).state != "success":
            await asyncio.sleep(0)
        assert runs - began <= 50
        assert len(await rig.call("l:names")) == 21
        runs = 2_000
        await rig.rest()


@pytest.mark.parametrize("how", ["one by one", "run_many", "caught"])
async def test_H8_a_call_that_schedules_1001_jobs_stores_none(path: Path, how: str) -> None:
    """The limit of one call holds for every way to schedule, and the message names it; caught, 1000 stand."""
    ns: Namespace[Any] = Namespace("s")

    @ns.mutation
    async def many(ctx: MutationCtx[Any]) -> None:
        calls = [Call("l:put", {"who": str(at)}).after(100) for at in range(CALL_JOBS_MAX + 1)]
        if how == "run_many":
            await ctx.scheduler.run_many(calls)
        try:
            for call in calls:
                await ctx.scheduler.run_after(100, call.path, call.args)
        except LimitExceeded:
            if how != "caught":
                raise

    async with make(path, ns) as rig:
        answer = await rig.attempt("s:many")
        if how == "caught":
            assert answer is None
        else:
            assert isinstance(answer, LimitExceeded)
            assert str(CALL_JOBS_MAX) in str(answer)
        assert rows(path, "SELECT count(*) FROM _scheduler_jobs") == [(CALL_JOBS_MAX if how == "caught" else 0,)]


@pytest.mark.parametrize("kind", ["mutation", "action"])
async def test_H8_a_call_that_schedules_over_8_mib_is_refused(path: Path, kind: str) -> None:
    """Nine jobs of just under a mebibyte each: a mutation stores none, an action those before the limit."""
    ns: Namespace[Any] = Namespace("s")
    big = "x" * (1_000_000)

    async def schedule(ctx: Any) -> None:
        for _ in range(9):
            await ctx.scheduler.run_after(100, "l:put", {"who": big})

    @ns.mutation
    async def mutation(ctx: MutationCtx[Any]) -> None:
        await schedule(ctx)

    @ns.action
    async def action(ctx: ActionCtx[Any]) -> None:
        await schedule(ctx)

    async with make(path, ns) as rig:
        assert isinstance(await rig.attempt(f"s:{kind}"), LimitExceeded)
        assert rows(path, "SELECT count(*) FROM _scheduler_jobs") == [(0 if kind == "mutation" else 8,)]


async def test_H8_a_backlog_does_not_keep_a_live_call_waiting(path: Path) -> None:
    """Thousands of due jobs are taken a turn at a time; a live call goes into the very next one."""
    async with make(path) as rig:
        calls = [Call("l:put", {"who": str(at)}).after(1) for at in range(TURN_DUE_MAX * 2)]
        await rig.app.scheduler.run_many(calls)
        await rig.rest()
        rig.clock.move_to(rig.clock.now_us() + SECOND_US)
        assert await rig.call("l:put", who="live") == "live"
        while await rig.app.scheduler.list(state="pending").count():
            await asyncio.sleep(0)
        assert rows(path, "SELECT count(*) FROM ledger") == [(TURN_DUE_MAX * 2 + 1,)]
        before = "SELECT count(*) FROM ledger WHERE rowid < (SELECT rowid FROM ledger WHERE who = 'live')"
        ((overtaken_by,),) = rows(path, before)
        assert overtaken_by <= TURN_DUE_MAX


ENDLESS = "WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up) SELECT count(*) FROM up"


@pytest.mark.parametrize(
    "statement", [ENDLESS, f"INSERT INTO ledger (who) {ENDLESS} RETURNING n"], ids=["read", "write"]
)
async def test_10a_sql_without_an_end_is_interrupted_and_its_turn_mates_commit(
    path: Path, db: Any, statement: str
) -> None:
    """A mutation past its timeout gets TimeLimitExceeded and keeps nothing; the rest of its turn stands."""
    ns: Namespace[Any] = Namespace("e")

    @ns.mutation(timeout=0.05)
    async def endless(ctx: MutationCtx[Any]) -> None:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('half')")
        await ctx.db.fetch_all(statement)

    async with make(path, ns, db=db) as rig:
        first, failed, last = await rig.together(
            rig.call("l:put", who="a"), rig.call("e:endless"), rig.call("l:put", who="b")
        )
        assert (first, last) == ("a", "b")
        assert isinstance(failed, TimeLimitExceeded)
        job_id = await rig.app.scheduler.run_now("e:endless")
        await rig.rest()
        assert ((await rig.job(job_id)).state, (await rig.job(job_id)).cause) == ("failed", "timeout")
        assert await rig.call("l:names") == ["a", "b"]


async def test_10a_a_query_without_an_end_is_interrupted_and_its_reader_goes_on(path: Path, db: Any) -> None:
    """Four of them at once: each caller gets TimeLimitExceeded, and every reader serves again."""
    ns: Namespace[Any] = Namespace("e")

    @ns.query(timeout=0.05)
    async def endless(ctx: QueryCtx[Any]) -> Any:
        return await ctx.db.fetch_value(ENDLESS)

    async with make(path, ns, db=db) as rig:
        answers = await rig.together(*(rig.call("e:endless") for _ in range(4)))
        assert [type(answer) for answer in answers] == [TimeLimitExceeded] * 4
        assert await rig.together(*(rig.call("l:names") for _ in range(8))) == [[]] * 8
