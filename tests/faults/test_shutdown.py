"""S1-S5: the end of the app's life, its crash, and what is asked of it outside its life."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import ActorSchedulerError, NotStarted
from actor_scheduler.store.sqlite.thread import ThreadDb
from runtime import ActionCtx, App, Namespace
from runtime.testing import Harness
from tests.faults.injector import rows
from tests.faults.rig import ledger, make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.injector import Injector


class Work:
    """Actions that stand until the test lets them go on."""

    def __init__(self) -> None:
        self.ns: Namespace[Any] = Namespace("w")
        self.go = asyncio.Event()
        self.started: list[str] = []
        self.app: Any = None

        @self.ns.action
        async def act(ctx: ActionCtx[Any]) -> str:
            self.started.append(ctx.idempotency_key)
            await self.go.wait()
            await ctx.run_mutation("l:put", {"who": "written in the grace"})
            await ctx.scheduler.run_after(60, "l:put", {"who": "scheduled in the grace"})
            return "done"


async def test_S1_a_stop_lets_running_actions_finish_and_record_it(path: Path, db: Any) -> None:
    """Within the grace an action may still use its ctx; its success is durable, and what it scheduled too."""
    work = Work()
    async with make(path, work.ns, db=db, grace=60) as rig:
        job_id = await rig.app.scheduler.run_now("w:act")
        await rig.rest()
        stopping = asyncio.ensure_future(rig.app._stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        (refused,) = await rig.together(rig.app.scheduler.run_now("w:act"))
        assert isinstance(refused, NotStarted)
        work.go.set()
        await stopping
        await rig.start()
        assert (await rig.job(job_id)).state == "success"
        assert work.started == [job_id]
        await rig.pass_time(60)
        assert await rig.call("l:names") == ["written in the grace", "scheduled in the grace"]


async def test_S1_an_action_that_outstays_the_grace_is_interrupted(path: Path, db: Any) -> None:
    """It is canceled, its job is failed with cause interrupted, and it is not run again."""
    work = Work()
    async with make(path, work.ns, db=db, grace=0) as rig:
        job_id = await rig.app.scheduler.run_now("w:act")
        await rig.rest()
        await rig.app._stop()
        await rig.start()
        job = await rig.job(job_id)
        assert (job.state, job.cause, job.attempt) == ("failed", "interrupted", 1)
        await rig.pass_time(60)
        assert work.started == [job_id]


async def test_S1_a_stop_starts_nothing_that_falls_due(path: Path) -> None:
    """What falls due while the app stops stays pending for the next start."""
    work = Work()
    async with make(path, work.ns, grace=60) as rig:
        await rig.app.scheduler.run_now("w:act")
        later = await rig.app.scheduler.run_after(1, "l:put", {"who": "later"})
        await rig.rest()
        stopping = asyncio.ensure_future(rig.app._stop())
        await asyncio.sleep(0)
        await rig.pass_time(2)
        work.go.set()
        await stopping
        assert rows(path, "SELECT state FROM _scheduler_jobs WHERE seq = 2") == [("pending",)]
        await rig.start()
        assert (await rig.job(later)).state == "success"


async def test_S3_what_was_accepted_before_the_stop_is_finished(path: Path, db: Any) -> None:
    """Hundreds of calls made in the same moment as the stop: each is done and durable, or definitely refused."""
    async with make(path, db=db) as rig:
        calls = [asyncio.ensure_future(rig.attempt("l:put", who=str(at))) for at in range(200)]
        await asyncio.sleep(0)  # gathered
        await asyncio.sleep(0)  # accepted
        stopping = asyncio.ensure_future(rig.stop())
        late = [asyncio.ensure_future(rig.attempt("l:put", who=f"late {at}")) for at in range(5)]
        answers = await asyncio.gather(*calls)
        await stopping
        assert answers == [str(at) for at in range(200)]
        assert {type(await answer) for answer in late} == {NotStarted}
        assert rows(path, "SELECT count(*) FROM ledger") == [(200,)]


@pytest.mark.parametrize("passes", range(8))
async def test_S3_no_call_around_a_stop_is_acknowledged_and_lost(path: Path, passes: int) -> None:
    """Wherever the stop falls between accepting and committing, an answer means durable and a refusal means absent."""
    async with make(path, db=ThreadDb) as rig:
        calls = [asyncio.ensure_future(rig.attempt("l:put", who=str(at))) for at in range(10)]
        for _ in range(passes):
            await asyncio.sleep(0)
        await rig.stop()
        answers = await asyncio.gather(*calls)
        stored = {who for (who,) in rows(path, "SELECT who FROM ledger")}
        assert stored == {answer for answer in answers if isinstance(answer, str)}
        assert all(isinstance(answer, str | NotStarted) for answer in answers)


async def test_S1_a_stop_leaves_no_log_behind_and_a_crash_loses_nothing(path: Path, db: Any) -> None:
    """After a stop the -wal is empty or gone; after a kill it holds what was acknowledged."""
    async with make(path, db=db) as rig:
        await rig.call("l:put", who="a")
        await rig.kill()
        await rig.start()
        await rig.call("l:put", who="b")
        await rig.stop()
        wal = path.with_name("app.db-wal")
        assert not wal.exists() or wal.stat().st_size == 0
        assert rows(path, "SELECT who FROM ledger") == [("a",), ("b",)]
        await rig.start()


async def test_S1_a_waiter_for_a_job_is_told_that_the_app_stopped(path: Path) -> None:
    """scheduler.wait does not hang over a stop."""
    async with make(path) as rig:
        job_id = await rig.app.scheduler.run_after(60, "l:put", {"who": "a"})
        waiting = asyncio.ensure_future(rig.app.scheduler.wait(job_id))
        await rig.rest()
        await rig.stop()
        with pytest.raises(NotStarted):
            await waiting


async def test_S5_without_its_lifespan_an_app_refuses_everything(path: Path) -> None:
    """Before the start and after the end each use raises NotStarted, and no file appears."""
    app: App[Any] = App(path, namespaces=[ledger()])

    async def refuses_everything() -> None:
        for call in (
            lambda: app.call("l:put", {"who": "a"}),
            lambda: app.call("l:names"),
            lambda: app.scheduler.cancel(key="k"),
            lambda: app.scheduler.get("0" * 32),
            lambda: app.scheduler.wait("0" * 32),
            lambda: app.idempotent("k").call("l:put", {"who": "a"}),
            lambda: app.scheduler.list().count(),
        ):
            with pytest.raises(NotStarted, match="lifespan"):
                await call()
        for schedule in (app.scheduler.run_now, lambda path_, args: app.scheduler.run_after(1, path_, args)):
            with pytest.raises(NotStarted, match="lifespan"):
                await schedule("l:put", {"who": "a"})

    await refuses_everything()
    assert not path.exists()
    app.schema("CREATE TABLE ledger (n INTEGER PRIMARY KEY, who TEXT)")
    async with app:
        assert await app.call("l:put", {"who": "a"}) == "a"
    await refuses_everything()
    async with app:
        assert await app.call("l:names") == ["a"]


async def test_S2_a_killed_harness_starts_again_with_everything(path: Path) -> None:
    """The public harness: a crash between any two steps loses no job and runs none twice."""
    app: App[Any] = App(path, namespaces=[ledger()])
    app.schema("CREATE TABLE ledger (n INTEGER PRIMARY KEY, who TEXT)")
    async with Harness(app) as h:
        for at in range(5):
            await h.scheduler.run_after(at + 1, "l:put", {"who": str(at)})
            await h.restart(down_for=0.5)
        await h.restart(down_for=60)
        assert await h.call("l:names") == ["0", "1", "2", "3", "4"]
        await h.restart(kill=False)
        assert await h.call("l:names") == ["0", "1", "2", "3", "4"]
        assert {job.state for job in await h.runs()} == {"success"}


async def test_S4_a_start_that_fails_holds_nothing_and_the_next_one_works(path: Path, faults: Injector) -> None:
    """An I/O error at every single statement of the start, one after the other: one error, then a clean start."""
    rig = make(path, lock_timeout=0)
    failed_at: list[str] = []
    while True:
        faults.calls, faults.fail_call, faults.failed_call = 0, len(failed_at) + 1, None
        try:
            await rig.start()
        except ActorSchedulerError:
            assert faults.failed_call is not None
            failed_at.append(faults.failed_call)
            continue
        break
    faults.fail_call = None
    assert len(failed_at) > 20
    await rig.pass_time(10)
    assert await rig.call("l:put", who="a") == "a"
    await rig.kill()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
