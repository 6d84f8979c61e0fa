"""T1: a statement may silently end the whole transaction. Its mutation keeps nothing; its turn-mates commit once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import DatabaseError, StoreFull, TimeLimitExceeded, TransactionLost
from runtime import MutationCtx, Namespace
from tests.faults.injector import FULL, rows
from tests.faults.rig import make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.injector import Injector

ENDINGS = {
    "or_rollback": "INSERT OR ROLLBACK INTO ledger (who) VALUES ('taken')",
    "raise_rollback": "INSERT INTO guarded VALUES (-1)",
    "interrupt": (
        "INSERT INTO guarded WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up)"
        " SELECT n FROM up WHERE n < 0"
    ),
}


def bad() -> Namespace[Any]:
    """Return mutations that end the transaction, swallow the error, and write on."""
    ns: Namespace[Any] = Namespace("b")

    async def swallow(ctx: MutationCtx[Any], how: str) -> None:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('first half')")
        try:
            await ctx.db.execute(ENDINGS[how])
        except DatabaseError:
            pass
        try:
            await ctx.db.execute("INSERT INTO ledger (who) VALUES ('second half')")
            await ctx.scheduler.run_now("l:put", {"who": "job of the second half"})
        except DatabaseError:
            pass

    @ns.mutation(timeout=0.02)
    async def direct(ctx: MutationCtx[Any], *, how: str) -> None:
        await swallow(ctx, how)

    @ns.mutation(timeout=0.02)
    async def outer(ctx: MutationCtx[Any], *, how: str) -> None:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('outer half')")
        try:
            await ctx.run_mutation("b:direct", {"how": how})
        except DatabaseError:
            pass

    return ns


@pytest.mark.parametrize("path_", ["b:direct", "b:outer"])
@pytest.mark.parametrize("how", ENDINGS)
async def test_T1_a_statement_that_ends_the_transaction_keeps_nothing(
    path: Path, db: Any, how: str, path_: str
) -> None:
    """Of a live mutation that swallows the error nothing stays; the 99 in its turn commit exactly once."""
    async with make(path, bad(), db=db) as rig:
        await rig.call("l:put", who="taken")
        good = [rig.call("l:put", who=f"mate {at}") for at in range(99)]
        answers = await rig.together(*good[:60], rig.call(path_, how=how), *good[60:])
        failed = answers.pop(60)
        assert isinstance(failed, TimeLimitExceeded if how == "interrupt" else TransactionLost)
        assert answers == [f"mate {at}" for at in range(99)]
        await rig.rest()
        assert Counter(await rig.call("l:names")) == Counter(["taken", *answers])
        assert await rig.app.scheduler.list().count() == 0


@pytest.mark.parametrize("path_", ["b:direct", "b:outer"])
@pytest.mark.parametrize("how", ENDINGS)
async def test_T1_only_the_scheduled_mutation_that_ended_the_transaction_fails(
    path: Path, db: Any, how: str, path_: str
) -> None:
    """Of due mutations run in one turn, the bad one fails with a cause, and every other one succeeds once."""
    async with make(path, bad(), db=db) as rig:
        await rig.call("l:put", who="taken")
        ids = [await rig.app.scheduler.run_after(1, "l:put", {"who": f"mate {at}"}) for at in range(10)]
        culprit = await rig.app.scheduler.run_after(1, path_, {"how": how})
        ids += [await rig.app.scheduler.run_after(1, "l:put", {"who": f"mate {at}"}) for at in range(10, 20)]
        await rig.pass_time(1)
        job = await rig.job(culprit)
        assert (job.state, job.cause) == ("failed", "timeout" if how == "interrupt" else "error")
        assert job.error
        assert [(await rig.job(mate)).state for mate in ids] == ["success"] * 20
        assert Counter(await rig.call("l:names")) == Counter(["taken", *(f"mate {at}" for at in range(20))])
        assert await rig.app.scheduler.list().count() == 21


async def test_T1_a_full_file_ends_only_the_mutation_that_filled_it(path: Path, db: Any) -> None:
    """Really out of pages: the mutation that swallows it and writes on keeps nothing, and is told StoreFull."""
    ns: Namespace[Any] = Namespace("f")

    @ns.mutation
    async def fill(ctx: MutationCtx[Any]) -> None:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('first half')")
        for at in range(100):
            try:
                await ctx.db.execute("INSERT INTO ledger (who) VALUES (? || hex(zeroblob(4000)))", [at])
            except DatabaseError:
                break
        try:
            await ctx.db.execute("INSERT INTO ledger (who) VALUES ('second half')")
        except DatabaseError:
            pass

    async with make(path, ns, db=db) as rig:
        pages = rows(path, "PRAGMA page_count")[0][0]
        rig.store._connection.raw.execute(f"PRAGMA max_page_count = {pages + 10}")
        first, failed, last = await rig.together(
            rig.call("l:put", who="a"), rig.call("f:fill"), rig.call("l:put", who="b")
        )
        assert (first, last) == ("a", "b")
        assert isinstance(failed, StoreFull)
        assert await rig.call("l:names") == ["a", "b"]


async def test_T1_a_failed_statement_of_ours_keeps_nothing_of_its_mutation(path: Path, faults: Injector) -> None:
    """When scheduling a job inside a mutation finds the disk full, the mutation can't keep its other half."""
    ns: Namespace[Any] = Namespace("s")

    @ns.mutation
    async def schedule(ctx: MutationCtx[Any]) -> None:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('first half')")
        try:
            await ctx.scheduler.run_now("l:put", {"who": "job"})
        except StoreFull:
            pass
        try:
            await ctx.db.execute("INSERT INTO ledger (who) VALUES ('second half')")
        except DatabaseError:
            pass

    async with make(path, ns) as rig:
        faults.plan("INSERT INTO main._scheduler_jobs", FULL, ends=True, times=2)  # alone it is tried once more
        mate, failed = await rig.together(rig.call("l:put", who="mate"), rig.call("s:schedule"))
        assert mate == "mate"
        assert isinstance(failed, StoreFull)
        assert await rig.call("l:names") == ["mate"]
        assert await rig.app.scheduler.list().count() == 0
