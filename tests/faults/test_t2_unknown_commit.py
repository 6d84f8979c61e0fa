"""T2: a COMMIT that failed with an I/O error is unknown. Nobody is told a lie; everything runs exactly once after."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import OutcomeUnknown, StoreUnavailable
from runtime import ActionCtx, MutationCtx, Namespace
from tests.faults.injector import FSYNC, rows
from tests.faults.rig import make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.injector import Injector

WHEN = pytest.mark.parametrize("committed", [False, True], ids=["lost", "committed"])


class Work:
    """An action that waits for the test, and counts its starts."""

    def __init__(self) -> None:
        self.ns: Namespace[Any] = Namespace("w")
        self.started: list[str] = []
        self.go = asyncio.Event()

        @self.ns.action
        async def act(ctx: ActionCtx[Any]) -> str:
            self.started.append(ctx.idempotency_key)
            await self.go.wait()
            return "done"

        @self.ns.mutation
        async def plan(ctx: MutationCtx[Any], *, who: str) -> str:
            await ctx.db.execute("INSERT INTO ledger (who) VALUES (?)", [who])
            return await ctx.scheduler.run_now("w:act")


@WHEN
async def test_T2_everyone_in_a_turn_of_unknown_outcome_is_told_so(
    path: Path, db: Any, faults: Injector, committed: bool
) -> None:
    """Live mutations and schedules get OutcomeUnknown, and all of the turn stands, or none of it."""
    async with make(path, db=db) as rig:
        faults.plan("COMMIT", FSYNC, after=committed)
        answers = await rig.together(
            rig.call("l:put", who="a"), rig.app.scheduler.run_now("l:put", {"who": "b"}), rig.call("l:put", who="c")
        )
        assert [type(answer) for answer in answers] == [OutcomeUnknown] * 3
        await rig.pass_time(10)
        assert await rig.call("l:names") == (["a", "c", "b"] if committed else [])
        assert await rig.call("l:put", who="after") == "after"
        assert faults.count("COMMIT") > 1


@WHEN
async def test_T2_a_resend_with_the_same_idempotency_key_tells_the_truth(
    path: Path, db: Any, faults: Injector, committed: bool
) -> None:
    """After an unknown outcome the resend returns the first result, and the effect is there once."""
    async with make(path, db=db) as rig:
        faults.plan("COMMIT", FSYNC, after=committed)
        sender = rig.app.idempotent("key")
        (first,) = await rig.together(sender.call("l:put", {"who": "a"}))
        assert isinstance(first, OutcomeUnknown)
        for _ in range(2):
            await rig.pass_time(1)
            assert await sender.call("l:put", {"who": "a"}) == "a"
        assert await rig.call("l:names") == ["a"]


@WHEN
async def test_T2_a_resent_schedule_with_the_same_idempotency_key_is_one_job(
    path: Path, faults: Injector, committed: bool
) -> None:
    """The job of an unknown schedule and the job of its resend are the same job, and it runs once."""
    async with make(path) as rig:
        faults.plan("COMMIT", FSYNC, after=committed)
        (first,) = await rig.together(rig.app.scheduler.run_after(5, "l:put", {"who": "a"}, idempotency_key="key"))
        assert isinstance(first, OutcomeUnknown)
        await rig.rest()
        job_id = await rig.app.scheduler.run_after(5, "l:put", {"who": "a"}, idempotency_key="key")
        await rig.pass_time(20)
        assert (await rig.job(job_id)).state == "success"
        assert await rig.call("l:names") == ["a"]
        assert await rig.app.scheduler.list().count() == 1


@WHEN
async def test_T2_due_mutations_of_an_unknown_turn_run_exactly_once(
    path: Path, db: Any, faults: Injector, committed: bool
) -> None:
    """Scheduled mutations whose commit was unknown take effect once, whichever way it went."""
    async with make(path, db=db) as rig:
        ids = [await rig.app.scheduler.run_after(1, "l:put", {"who": f"{at}"}) for at in range(5)]
        await rig.rest()
        faults.plan("COMMIT", FSYNC, after=committed)
        await rig.pass_time(30)
        assert [(await rig.job(job_id)).state for job_id in ids] == ["success"] * 5
        assert await rig.call("l:names") == ["0", "1", "2", "3", "4"]


@WHEN
async def test_T2_an_action_claimed_in_an_unknown_commit_starts_exactly_once(
    path: Path, db: Any, faults: Injector, committed: bool
) -> None:
    """A claim that may have become durable was not started; after reopening it starts, as its first attempt."""
    work = Work()
    async with make(path, work.ns, db=db) as rig:
        ids = [await rig.app.scheduler.run_after(1, "w:act") for _ in range(3)]
        await rig.rest()
        faults.plan("COMMIT", FSYNC, after=committed)
        work.go.set()
        await rig.pass_time(30)
        assert sorted(work.started) == sorted(ids)
        jobs = [await rig.job(job_id) for job_id in ids]
        assert [(job.state, job.attempt) for job in jobs] == [("success", 1)] * 3


@WHEN
async def test_T2_a_completion_of_unknown_outcome_is_recorded_after_reopening(
    path: Path, db: Any, faults: Injector, committed: bool
) -> None:
    """An action that ended while the store broke is a success in the end, and never starts again."""
    work = Work()
    async with make(path, work.ns, db=db) as rig:
        job_id = await rig.app.scheduler.run_now("w:act")
        await rig.rest()
        assert (await rig.job(job_id)).state == "in_progress"
        faults.plan("COMMIT", FSYNC, after=committed)
        work.go.set()
        await rig.pass_time(30)
        job = await rig.job(job_id)
        assert (job.state, job.result, job.attempt) == ("success", "done", 1)
        await rig.restart()
        assert work.started == [job_id]


@WHEN
async def test_T2_an_action_that_runs_on_while_the_store_is_reopened_is_not_started_again(
    path: Path, db: Any, faults: Injector, committed: bool
) -> None:
    """Reopening takes back claims that never started, and only those."""
    work = Work()
    async with make(path, work.ns, db=db) as rig:
        running = await rig.app.scheduler.run_now("w:act")
        await rig.rest()
        waiting = await rig.app.scheduler.run_after(1, "w:act")
        await rig.rest()
        faults.plan("COMMIT", FSYNC, after=committed)
        await rig.pass_time(10)
        assert sorted(work.started) == sorted([running, waiting])
        work.go.set()
        await rig.rest()
        assert [(await rig.job(job_id)).attempt for job_id in (running, waiting)] == [1, 1]
        assert [(await rig.job(job_id)).state for job_id in (running, waiting)] == ["success", "success"]


@WHEN
async def test_T2_a_mutation_and_the_action_it_schedules_stand_or_fall_together(
    path: Path, faults: Injector, committed: bool
) -> None:
    """Of an unknown mutation both the write and the job exist, or neither."""
    work = Work()
    work.go.set()
    async with make(path, work.ns) as rig:
        faults.plan("COMMIT", FSYNC, after=committed)
        assert isinstance(await rig.attempt("w:plan", who="a"), OutcomeUnknown)
        await rig.pass_time(10)
        assert len(work.started) == len(await rig.call("l:names")) == int(committed)


@pytest.mark.parametrize("refuses", ["connect", "PRAGMA wal_checkpoint", "SELECT seq FROM main._scheduler_jobs"])
async def test_R4_a_store_that_cannot_be_reopened_refuses_work_and_comes_back_by_itself(
    path: Path, db: Any, faults: Injector, refuses: str
) -> None:
    """While reopening fails nothing is accepted or started; when the fault ends, everything pending runs once."""
    async with make(path, db=db) as rig:
        job_id = await rig.app.scheduler.run_after(1, "l:put", {"who": "due"})
        await rig.rest()
        faults.plan("COMMIT", FSYNC)
        again = faults.plan(refuses, "SQLITE_IOERR_READ", times=None)
        assert isinstance(await rig.attempt("l:put", who="a"), OutcomeUnknown)
        await rig.pass_time(60)
        assert 10 < again.fired < 30  # from 0.1 s up to every 5 s
        assert isinstance(await rig.attempt("l:put", who="b"), StoreUnavailable)
        (refused,) = await rig.together(rig.app.scheduler.run_now("l:put", {"who": "c"}))
        assert isinstance(refused, StoreUnavailable)
        assert rows(path, "SELECT count(*) FROM ledger") == [(0,)]
        faults.heal()
        await rig.pass_time(6)
        assert rig.actor.broken is None
        assert (await rig.job(job_id)).state == "success"
        assert await rig.call("l:names") == ["due"]


async def test_R4_calls_that_waited_while_the_store_broke_are_definitely_not_done(path: Path, faults: Injector) -> None:
    """What stood in the mailbox behind the turn that broke runs after a quick reopening, or is refused: never lost."""
    async with make(path) as rig:
        faults.plan("COMMIT", FSYNC)
        faults.plan("connect", "SQLITE_CANTOPEN")
        begun = faults.count("BEGIN")
        first = asyncio.ensure_future(rig.attempt("l:put", who="a"))
        while faults.count("BEGIN") == begun and not first.done():  # until its turn is under way
            await asyncio.sleep(0)
        second = await rig.attempt("l:put", who="b")
        assert isinstance(await first, OutcomeUnknown)
        assert isinstance(second, StoreUnavailable)
        await rig.pass_time(10)
        assert await rig.call("l:names") == []


async def test_T2_the_log_is_checkpointed_before_anything_is_acknowledged_again(path: Path, faults: Injector) -> None:
    """After a failed flush, pages marked clean in memory are not trusted: the log is checkpointed first."""
    async with make(path) as rig:
        assert faults.count("PRAGMA wal_checkpoint") == 0
        checkpoint = faults.plan("PRAGMA wal_checkpoint", FSYNC)
        faults.plan("COMMIT", FSYNC)
        await rig.attempt("l:put", who="a")
        await rig.rest()
        assert checkpoint.fired == 1
        assert isinstance(await rig.attempt("l:put", who="b"), StoreUnavailable)
        await rig.pass_time(1)
        assert faults.count("PRAGMA wal_checkpoint") == 2
        assert await rig.call("l:put", who="c") == "c"
