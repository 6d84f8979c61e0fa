"""A deferred foreign key passes its statement and fails the COMMIT: the culprit is found, and only it fails."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import IntegrityError
from runtime import MutationCtx, Namespace
from tests.faults.injector import rows
from tests.faults.rig import make

if TYPE_CHECKING:
    from pathlib import Path


def orphans(ran: Counter[str]) -> Namespace[Any]:
    """Return mutations that count their runs; one leaves a child without a parent."""
    ns: Namespace[Any] = Namespace("o")

    @ns.mutation
    async def orphan(ctx: MutationCtx[Any], *, who: str) -> None:
        ran[who] += 1
        await ctx.db.execute("INSERT INTO children (parent) VALUES (404)")

    @ns.mutation
    async def put(ctx: MutationCtx[Any], *, who: str) -> str:
        ran[who] += 1
        await ctx.db.execute("INSERT INTO ledger (who) VALUES (?)", [who])
        return who

    return ns


@pytest.mark.parametrize(("count", "at"), [(1, 0), (2, 0), (2, 1), (7, 3), (100, 0), (100, 61), (100, 99)])
async def test_10a_the_live_culprit_of_a_refused_commit_stands_alone(path: Path, db: Any, count: int, at: int) -> None:
    """It gets a definite IntegrityError; its turn-mates commit once, though their bodies may run more than once."""
    ran: Counter[str] = Counter()
    async with make(path, orphans(ran), db=db) as rig:
        calls = [rig.call("o:put", who=str(n)) for n in range(count)]
        calls[at].close()
        calls[at] = rig.call("o:orphan", who="culprit")
        answers = await rig.together(*calls)
        culprit = answers.pop(at)
        assert type(culprit) is IntegrityError
        assert "not happened" not in str(culprit)
        assert answers == [str(n) for n in range(count) if n != at]
        assert sorted(await rig.call("l:names")) == sorted(answers)
        assert rows(path, "SELECT count(*) FROM children") == [(0,)]
        assert ran["culprit"] >= (2 if count > 1 else 1)
        assert max(ran.values()) <= 10  # halving: about log2 of the turn, not one try for each neighbour


@pytest.mark.parametrize(("count", "at"), [(1, 0), (2, 1), (7, 3), (100, 61)])
async def test_10a_the_scheduled_culprit_of_a_refused_commit_fails_alone(
    path: Path, db: Any, count: int, at: int
) -> None:
    """Its job is failed with the constraint as its error; the others of its turn succeed, once."""
    async with make(path, orphans(Counter()), db=db) as rig:
        ids = [
            await rig.app.scheduler.run_after(1, "o:orphan" if n == at else "o:put", {"who": str(n)})
            for n in range(count)
        ]
        await rig.pass_time(1)
        jobs = [await rig.job(job_id) for job_id in ids]
        culprit = jobs.pop(at)
        assert (culprit.state, culprit.cause, culprit.attempt) == ("failed", "error", 1)
        assert "FOREIGN KEY" in (culprit.error or "")
        assert {job.state for job in jobs} <= {"success"}
        assert sorted(await rig.call("l:names")) == sorted(str(n) for n in range(count) if n != at)


async def test_10a_several_culprits_in_one_turn_are_each_found(path: Path) -> None:
    """Three of forty break the constraint: three definite errors, thirty-seven commits."""
    async with make(path, orphans(Counter())) as rig:
        answers = await rig.together(
            *(rig.call("o:orphan" if n in (3, 4, 30) else "o:put", who=str(n)) for n in range(40))
        )
        assert [n for n, answer in enumerate(answers) if isinstance(answer, IntegrityError)] == [3, 4, 30]
        assert len(await rig.call("l:names")) == 37


async def test_10a_a_constraint_mended_before_the_end_is_no_failure(path: Path) -> None:
    """A mutation that adds the missing parent itself commits: only its end counts."""
    ns: Namespace[Any] = Namespace("m")

    @ns.mutation
    async def family(ctx: MutationCtx[Any]) -> str:
        await ctx.db.execute("INSERT INTO children (parent) VALUES (7)")
        await ctx.db.execute("INSERT INTO parents VALUES (7)")
        return "family"

    async with make(path, ns) as rig:
        assert await rig.call("m:family") == "family"
        assert rows(path, "SELECT parent FROM children") == [(7,)]
