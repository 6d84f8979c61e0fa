"""H3, H5, H6, K15: functions that do not listen, block, kill or fork; and attempts that end while the store fails."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import OutcomeUnknown
from actor_scheduler.limits import SECOND_US
from runtime import ActionCtx, MutationCtx, Namespace, Retry
from tests.faults.injector import FSYNC, FULL, rows
from tests.faults.rig import make

if TYPE_CHECKING:
    from tests.faults.injector import Injector

ROOT = Path(__file__).parents[2]
AGAIN = "UPDATE main._scheduler_jobs SET state = 'pending', fire_at_us"
ENDS = "UPDATE main._scheduler_jobs SET state = ?, completed_at_us"


class Gate:
    """An action that stands until it is let go, then fails as long as it is told to; it can be deaf."""

    def __init__(self) -> None:
        self.ns: Namespace[Any] = Namespace("g")
        self.go = asyncio.Event()
        self.fails = True
        self.deaf = False
        self.started: list[int] = []
        self.inside = 0
        self.most = 0

        @self.ns.action(retry=Retry(3, jitter=0, base=5), timeout=600)
        async def act(ctx: ActionCtx[Any]) -> str:
            self.started.append(ctx.invoker.attempt)  # type: ignore[union-attr]
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                while not self.go.is_set():
                    try:
                        await self.go.wait()
                    except asyncio.CancelledError:
                        if not self.deaf:
                            raise
            finally:
                self.inside -= 1
            if self.fails:
                raise LookupError
            return "done"

        @self.ns.mutation(retry=Retry(3, jitter=0, base=5))
        async def write(ctx: MutationCtx[Any]) -> None:
            self.started.append(ctx.invoker.attempt)  # type: ignore[union-attr]
            await ctx.db.execute("INSERT INTO ledger (who) VALUES ('once')")
            if self.fails:
                raise LookupError


# ------------------------------------------------------------------ an attempt ends while the store fails


@pytest.mark.parametrize("ends", [False, True])
async def test_K14_another_attempt_that_the_disk_has_no_room_for_is_resent(
    path: Path, faults: Injector, ends: bool
) -> None:
    """The outcome waits for space; the attempt counts once, is on record once, and the next one comes."""
    gate = Gate()
    async with make(path, gate.ns) as rig:
        job_id = await rig.app.scheduler.run_now("g:act")
        await rig.rest()
        fault = faults.plan(AGAIN, FULL, ends=ends, times=3)
        gate.go.set()
        await rig.rest()
        assert (await rig.job(job_id)).state == "in_progress"
        await rig.pass_time(120)
        assert (fault.fired, gate.started) == (3, [1, 2, 3])
        assert (await rig.job(job_id)).state == "failed"
        assert [at.attempt for at in await rig.app.scheduler.failed_attempts(job_id)] == [1, 2]


@pytest.mark.parametrize("kind", ["act", "write"])
@pytest.mark.parametrize("after", [False, True])
async def test_T2_another_attempt_whose_commit_is_unknown_counts_once(
    path: Path, faults: Injector, kind: str, after: bool
) -> None:
    """Whether the commit happened or not: the same attempts, on record once each, never two at a time."""
    gate = Gate()
    async with make(path, gate.ns) as rig:
        job_id = await rig.app.scheduler.run_after(1, f"g:{kind}")
        if kind == "act":
            await rig.pass_time(1)
        faults.plan("COMMIT", FSYNC, after=after)
        gate.go.set()
        await rig.pass_time(300)
        # A mutation whose commit did not happen has not had that attempt.
        assert gate.started == ([1, 1, 2, 3] if kind == "write" and not after else [1, 2, 3])
        job = await rig.job(job_id)
        assert (job.state, job.attempt, gate.most) == ("failed", 3, 1 if kind == "act" else 0)
        assert [at.attempt for at in await rig.app.scheduler.failed_attempts(job_id)] == [1, 2]
        assert await rig.call("l:names") == []


@pytest.mark.parametrize("after", [False, True])
async def test_T2_a_retry_by_hand_whose_commit_is_unknown(path: Path, faults: Injector, after: bool) -> None:
    """The caller is told so; asked again it is one more attempt in all, not two."""
    gate = Gate()
    gate.go.set()
    async with make(path, gate.ns) as rig:
        job_id = await rig.app.scheduler.run_now("g:write", retry=1)
        await rig.rest()
        faults.plan("COMMIT", FSYNC, after=after)
        (told,) = await rig.together(rig.app.scheduler.retry(job_id))
        assert isinstance(told, OutcomeUnknown)
        gate.fails = False
        await rig.rest()
        again = await rig.app.scheduler.retry(job_id)
        await rig.rest()
        assert again is not after
        assert ((await rig.job(job_id)).state, gate.started) == ("success", [1, 2])
        assert await rig.call("l:names") == ["once"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("running", [False, True])
async def test_T2_a_cancel_of_a_running_action_whose_commit_is_unknown(
    path: Path, faults: Injector, after: bool, running: bool
) -> None:
    """If it happened, the action is not retried, though nobody could tell it to stop; if not, nothing has changed."""
    gate = Gate()
    async with make(path, gate.ns) as rig:
        job_id = await rig.app.scheduler.run_now("g:act")
        await rig.rest()
        faults.plan("COMMIT", FSYNC, after=after)
        (told,) = await rig.together(rig.app.scheduler.cancel(job_id, running=running))
        assert isinstance(told, OutcomeUnknown)
        await rig.rest()
        gate.go.set()
        await rig.pass_time(300)
        assert (await rig.job(job_id)).state == ("canceled" if after else "failed")
        assert gate.started == ([1] if after else [1, 2, 3])


async def test_H3_the_end_of_one_that_does_not_listen_waits_for_the_disk(path: Path, faults: Injector) -> None:
    """Its outcome is kept like any other, and its slot is free when it really ended."""
    gate = Gate()
    gate.deaf = True
    async with make(path, gate.ns, max_running_actions=1) as rig:
        job_id = await rig.app.scheduler.run_now("g:act", timeout=5)
        other = await rig.app.scheduler.run_now("g:act", timeout=5)
        faults.plan(ENDS, FULL, ends=True, times=4)
        await rig.pass_time(16)
        assert (await rig.job(job_id)).state == "in_progress"
        await rig.pass_time(60)
        job = await rig.job(job_id)
        assert (job.state, job.cause, gate.started) == ("failed", "timeout", [1])
        gate.fails = False
        gate.go.set()
        await rig.rest()
        assert ((await rig.job(other)).state, gate.most) == ("success", 1)
        assert await rig.job(job_id) == job


# ------------------------------------------------------------------ the end of the app


@pytest.mark.parametrize("deaf", [False, True])
async def test_S1_a_timeout_in_the_grace_of_a_stop(path: Path, deaf: bool) -> None:
    """The attempt ends as timed out and the stop with it; one that does not listen keeps it no longer than the grace."""
    gate = Gate()
    gate.deaf = deaf
    async with make(path, gate.ns, grace=0.1 if deaf else 60) as rig:
        job_id = await rig.app.scheduler.run_now("g:act", timeout=5, retry=1)
        await rig.rest()
        stopping = asyncio.ensure_future(rig.app._stop())
        await asyncio.sleep(0)
        rig.clock.move_to(rig.clock.now_us() + 5 * SECOND_US)
        await asyncio.wait_for(stopping, 10)
        gate.go.set()
        assert rows(path, "SELECT state, cause, attempt FROM _scheduler_jobs") == [("failed", "timeout", 1)]
        await rig.start()
        await rig.pass_time(60)
        assert ((await rig.job(job_id)).state, gate.started) == ("failed", [1])


async def test_S1_an_action_that_is_claimed_while_the_app_stops_has_its_grace(path: Path) -> None:
    """The claim was on its way when the stop began: the action runs to its end within the grace, and that is kept."""
    gate = Gate()
    gate.fails = False
    gate.go.set()
    async with make(path, gate.ns, grace=60) as rig:
        job_id = await rig.app.scheduler.run_after(1, "g:act", retry=1)
        apply, committed, release = rig.store.apply, asyncio.Event(), asyncio.Event()

        async def slow(units: Any, refills: Any) -> Any:
            result = await apply(units, refills)
            committed.set()
            await release.wait()
            return result

        rig.store.apply = slow
        rig.clock.move_to(rig.clock.now_us() + SECOND_US)
        await committed.wait()
        stopping = asyncio.ensure_future(rig.app._stop())
        for _ in range(10):
            await asyncio.sleep(0)
        release.set()
        await asyncio.wait_for(stopping, 10)
        await rig.start()
        assert (await rig.job(job_id)).state == "success"


# ------------------------------------------------------------------ H5: a body that blocks the loop


async def test_H5_a_body_that_blocks_the_loop_makes_others_late_and_no_more(path: Path) -> None:
    """What fell due meanwhile runs once, after it; it is not timed out for what it could not hear; nothing is lost."""
    ns: Namespace[Any] = Namespace("b")
    ran: list[str] = []

    async with make(path, ns) as rig:

        @ns.action(timeout=30, retry=3)
        async def blocks(ctx: ActionCtx[Any]) -> str:
            ran.append("blocks")
            rig.clock.move_to(rig.clock.now_us() + 3600 * SECOND_US)  # an hour in which the loop sees nothing
            return "done"

        @ns.action
        async def other(ctx: ActionCtx[Any], *, name: str) -> None:
            ran.append(name)

        blocking = await rig.app.scheduler.run_after(1, "b:blocks")
        ids = [await rig.app.scheduler.run_after(1 + at, "b:other", {"name": str(at)}) for at in range(10)]
        ids += [await rig.app.scheduler.run_after(1 + at, "l:put", {"who": str(at)}) for at in range(10)]
        await rig.pass_time(1)
        assert ran == ["blocks", *map(str, range(10))]
        assert await rig.call("l:names") == [str(at) for at in range(10)]
        jobs = [await rig.job(job_id) for job_id in (blocking, *ids)]
        assert {(job.state, job.attempt) for job in jobs} == {("success", 1)}
        assert rig.app.unready_reason is None


# ------------------------------------------------------------------ H6, K15: in real processes

CHILD = """
import asyncio, os, sys
from datetime import timedelta
from runtime import ActionCtx, App, MutationCtx, Retry, StoreUnavailable

app = App(sys.argv[1])
ns = app.namespace("k")
app.schema("CREATE TABLE t (x)")
often = Retry(20, base=0.01, factor=1)

@ns.action(retry=often)
async def poison(ctx: ActionCtx) -> None:
    await ctx.run_mutation(note, x=f"poison {ctx.invoker.attempt}")
    os._exit(9)

@ns.action
async def once(ctx: ActionCtx) -> None:
    await ctx.run_mutation(note, x=f"once {ctx.invoker.attempt}")
    await ctx.sleep(600)

@ns.mutation
async def note(ctx: MutationCtx, *, x: str) -> None:
    await ctx.db.execute("INSERT INTO t VALUES (?)", [x])

@ns.action
async def forks(ctx: ActionCtx) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        await ctx.scheduler.run_now("k:note", {"x": "from the fork"})
    except StoreUnavailable:
        code = 7
    finally:
        os._exit(code)

async def main(what: str) -> None:
    async with app:
        if what == "loop":
            await app.scheduler.run_many([once.bind(), poison.bind().after(0.05), note.bind(x="mate").after(0.05)])
        if what == "fork":
            job = await app.scheduler.wait(await app.scheduler.run_now("k:forks"))
            print(job.state, job.result, await app.scheduler.list(fn=note).count())
            return
        async for job in app.scheduler.list(fn=poison):
            await app.scheduler.wait(job.id)

asyncio.run(main(sys.argv[2]))
"""


def child(db: Path, what: str) -> subprocess.CompletedProcess[str]:
    """Run one life of the app."""
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(db), what]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=30)


def test_K15_an_action_with_retries_that_kills_the_process_is_failed(tmp_path: Path) -> None:
    """After three deaths in a row: crash_loop, whatever its policy says; what ran beside it once is interrupted."""
    db = tmp_path / "app.db"
    lives = [child(db, "loop" if life == 0 else "") for life in range(4)]
    assert [life.returncode for life in lives] == [9, 9, 9, 0], lives[-1].stderr
    jobs = rows(db, "SELECT path, state, cause, attempt FROM _scheduler_jobs ORDER BY seq")
    assert jobs[:2] == [("k:once", "failed", "interrupted", 1), ("k:poison", "failed", "crash_loop", 3)]
    assert jobs[2] == ("k:note", "success", None, 1)
    noted = [x for (x,) in rows(db, "SELECT x FROM t")]
    assert sorted(noted) == ["mate", "once 1", "poison 1", "poison 2", "poison 3"], json.dumps(noted)


def test_H6_a_body_that_forks(tmp_path: Path) -> None:
    """The child is told that the file is not its own, nothing of its schedule exists, and the parent goes on."""
    done = child(tmp_path / "app.db", "fork")
    assert (done.returncode, done.stdout.split()) == (0, ["success", "7", "0"]), done.stderr
