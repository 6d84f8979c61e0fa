"""T6: canceling a waiter never cancels the work. It is withdrawn before its turn, or done; never half."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.store.sqlite.thread import ThreadDb
from runtime import ActionCtx, MutationCtx, Namespace, QueryCtx
from tests.faults.rig import make

if TYPE_CHECKING:
    from pathlib import Path


class Gate:
    """A body that stands still on its database thread until the test lets it go on."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.inside = asyncio.Event()
        self._go = threading.Event()

    def stand(self) -> None:
        self.loop.call_soon_threadsafe(self.inside.set)
        assert self._go.wait(10)

    def open(self) -> None:
        self._go.set()


def gated(gate: Gate) -> Namespace[Any]:
    """Return a mutation and a query that stand at the gate."""
    ns: Namespace[Any] = Namespace("g")

    @ns.mutation
    async def put(ctx: MutationCtx[Any], *, who: str) -> str:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES (? || ' first half')", [who])
        gate.stand()
        await ctx.db.execute("INSERT INTO ledger (who) VALUES (? || ' second half')", [who])
        await ctx.scheduler.run_now("l:put", {"who": who + " job"})
        return who

    @ns.query
    async def names(ctx: QueryCtx[Any]) -> list[str]:
        before = await ctx.db.fetch_all("SELECT who FROM ledger")
        gate.stand()
        assert await ctx.db.fetch_all("SELECT who FROM ledger") == before
        return [row[0] for row in before]

    return ns


async def canceled(task: asyncio.Future[Any]) -> None:
    """Cancel a waiter and see that it was."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_T6_a_waiter_canceled_while_its_turn_runs_does_not_stop_the_turn(path: Path) -> None:
    """The effect stands, whole; the turn-mate is answered; the actor goes on."""
    gate = Gate()
    async with make(path, gated(gate), db=ThreadDb) as rig:
        waiter = asyncio.ensure_future(rig.call("g:put", who="a"))
        mate = asyncio.ensure_future(rig.call("l:put", who="mate"))
        await gate.inside.wait()
        await canceled(waiter)
        assert not mate.done()
        gate.open()
        assert await mate == "mate"
        await rig.rest()
        assert await rig.call("l:names") == ["a first half", "a second half", "mate", "a job"]


async def test_T6_a_waiter_canceled_before_its_turn_is_withdrawn(path: Path) -> None:
    """What waited behind a turn and was canceled has no effect; what waited beside it has."""
    gate = Gate()
    async with make(path, gated(gate), db=ThreadDb) as rig:
        first = asyncio.ensure_future(rig.call("g:put", who="a"))
        await gate.inside.wait()
        withdrawn = asyncio.ensure_future(rig.call("l:put", who="withdrawn"))
        job = asyncio.ensure_future(rig.app.scheduler.run_now("l:put", {"who": "withdrawn job"}))
        beside = asyncio.ensure_future(rig.call("l:put", who="beside"))
        await asyncio.sleep(0)
        await canceled(withdrawn)
        await canceled(job)
        gate.open()
        assert (await first, await beside) == ("a", "beside")
        await rig.rest()
        assert await rig.call("l:names") == ["a first half", "a second half", "beside", "a job"]


async def test_T6_waiters_canceled_at_any_pass_of_the_loop_leave_all_or_nothing(path: Path) -> None:
    """Wherever the cancellation hits, the mutation and the job it schedules both exist, or neither."""
    ns: Namespace[Any] = Namespace("n")

    @ns.mutation
    async def both(ctx: MutationCtx[Any], *, who: str) -> None:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES (?)", [who])
        await ctx.scheduler.run_now("l:put", {"who": who + " job"})

    seen = set()
    for passes in range(12):
        async with make(path.with_name(f"{passes}.db"), ns) as rig:
            waiter = asyncio.ensure_future(rig.call("n:both", who="a"))
            for _ in range(passes):
                await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            await rig.rest()
            names = await rig.call("l:names")
            assert names in ([], ["a", "a job"])
            if not waiter.cancelled():
                assert names
            seen.add(len(names))
            assert await rig.call("l:put", who="after") == "after"
    assert seen == {0, 2}


async def test_T6_a_reader_whose_caller_left_is_used_again_only_when_it_is_free(path: Path) -> None:
    """The query goes on in its own snapshot; other queries get other readers, and all of them are usable later."""
    gate = Gate()
    async with make(path, gated(gate), db=ThreadDb) as rig:
        await rig.call("l:put", who="a")
        waiter = asyncio.ensure_future(rig.call("g:names"))
        await gate.inside.wait()
        await canceled(waiter)
        await rig.call("l:put", who="b")
        answers = await asyncio.gather(*(rig.call("l:names") for _ in range(6)))
        assert answers == [["a", "b"]] * 6
        gate.open()
        answers = await asyncio.gather(*(rig.call("g:names") for _ in range(8)))
        assert answers == [["a", "b"]] * 8


async def test_T6_an_action_canceled_in_a_turn_of_its_own_still_commits_it(path: Path) -> None:
    """A live action that is canceled while its mutation commits leaves that mutation done."""
    gate = Gate()
    ns = gated(gate)

    @ns.action
    async def act(ctx: ActionCtx[Any]) -> None:
        await ctx.run_mutation("g:put", {"who": "a"})

    async with make(path, ns, db=ThreadDb) as rig:
        waiter = asyncio.ensure_future(rig.call("g:act"))
        await gate.inside.wait()
        await canceled(waiter)
        gate.open()
        await rig.rest()
        assert "a second half" in await rig.call("l:names")


async def test_T6_an_app_that_is_killed_during_a_turn_keeps_all_of_it_or_nothing(path: Path) -> None:
    """The turn on the writer's thread ends by itself; the waiter is told that the outcome is unknown."""
    gate = Gate()
    async with make(path, gated(gate), db=ThreadDb) as rig:
        waiter = asyncio.ensure_future(rig.attempt("g:put", who="a"))
        await gate.inside.wait()
        killing = asyncio.ensure_future(rig.kill())
        answer = await waiter
        gate.open()
        await killing
        assert type(answer).__name__ == "OutcomeUnknown"
        await rig.start()
        assert await rig.call("l:names") == ["a first half", "a second half", "a job"]
