"""V8 and G12: ended jobs are kept as long as promised, then forgotten, and a file under steady load stops growing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from actor_scheduler.errors import InvalidArgs, KeyConflict
from actor_scheduler.limits import KEEP_US, PRUNE_MAX, PRUNE_US, SECOND_US
from runtime import ActionCtx, Call, MutationCtx, Namespace, Retry
from tests.faults.injector import Injector, rows
from tests.faults.rig import Rig
from tests.fixtures.make import LEFT_US, SCHEMA, second_release, shop
from tests.maintenance.files import KEPT, copy_of, jobs, run

LONG: Final = bool(os.environ.get("LONG"))
MINUTES: Final = 600 if LONG else 90
PER_MINUTE: Final = 100 if LONG else 40
KEEP_S: Final = 600
LOOK_S: Final = PRUNE_US / SECOND_US


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database file."""
    return tmp_path / "app.db"


def kept() -> Namespace[Any]:
    """Return functions whose jobs are kept for ten minutes, for a week, and for ever."""
    ns: Namespace[Any] = Namespace("k")
    ten_minutes = timedelta(seconds=KEEP_S)

    @ns.mutation(keep=ten_minutes)
    async def short(ctx: MutationCtx[Any], *, text: str = "") -> str:
        return text

    @ns.mutation
    async def week(ctx: MutationCtx[Any]) -> None: ...

    @ns.mutation(keep=timedelta.max)
    async def ever(ctx: MutationCtx[Any]) -> None: ...

    @ns.mutation(keep=ten_minutes)
    async def fails(ctx: MutationCtx[Any]) -> None:
        raise RuntimeError("no")

    @ns.action(keep=ten_minutes, retry=Retry(4, backoff="constant", base=1.0, jitter=0.0))
    async def third_time(ctx: ActionCtx[Any], *, text: str = "") -> str:
        if getattr(ctx.invoker, "attempt", 3) < 3:
            raise RuntimeError("not yet")
        return text

    @ns.action(keep=ten_minutes)
    async def stand(ctx: ActionCtx[Any]) -> None:
        await ctx.sleep(3 * KEEP_S)

    return ns


class ForgettingRig(Rig):
    """A rig whose app forgets, as in production; the rig of other tests has it keep everything."""

    async def start(self) -> None:
        begin = self.app._start

        async def forgetting() -> None:
            self.app._prunes = True
            await begin()

        self.app._start = forgetting
        try:
            await super().start()
        finally:
            self.app._start = begin


def make(path: Path, *namespaces: Namespace[Any]) -> Rig:
    """Return an app with these functions."""
    return ForgettingRig(path, kept(), *namespaces, synchronous="NORMAL")


async def there(rig: Rig, *job_ids: str) -> list[bool]:
    """Return for each job whether it is still known."""
    return [await rig.app.scheduler.get(job_id) is not None for job_id in job_ids]


def sizes(path: Path) -> tuple[int, int]:
    """Return a file's pages, and how many of them are free."""
    [[pages]], [[free]] = rows(path, "PRAGMA page_count"), rows(path, "PRAGMA freelist_count")
    return pages, free


# ------------------------------------------------------------------ how large a file gets


async def test_G12_a_file_under_steady_load_stops_growing(path: Path) -> None:
    """Once the first jobs have been kept long enough, the file, the jobs and the attempts in it stay as many."""
    pages: list[int] = []
    counts: list[tuple[int, int]] = []
    async with make(path) as rig:
        run_many = rig.app.scheduler.run_many
        for minute in range(MINUTES):
            text = f"{minute} ".ljust(400, "x")
            await run_many([Call("k:short", {"text": text})] * PER_MINUTE + [Call("k:third_time", {"text": text})] * 2)
            await rig.pass_time(60)
            pages.append(sizes(path)[0])
            counts.append((rows(path, "SELECT count(*) FROM _scheduler_jobs")[0][0],
                           rows(path, "SELECT count(*) FROM _scheduler_attempts")[0][0]))  # fmt: skip
            assert path.with_name("app.db-wal").stat().st_size <= 16 << 20
    settled = KEEP_S // 60 + 3  # kept, then found by the next look
    at_most = (settled + 1) * (PER_MINUTE + 2)
    assert max(count for count, _ in counts) <= at_most
    assert max(count for _, count in counts) <= (settled + 1) * 4
    assert pages[settled] > pages[0], "the file held no load to speak of"
    assert max(pages) <= max(pages[: settled + 1]) * 1.1, pages


async def test_what_was_kept_long_enough_goes_in_small_batches(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is, no turn forgets more than PRUNE_MAX, and callers are answered between the batches."""
    faults = Injector()
    faults.install(monkeypatch)
    count = 3 * PRUNE_MAX + 7
    async with make(path) as rig:
        await rig.app.scheduler.run_many([Call("k:short")] * count)
        await rig.pass_time(1)
        before = faults.count("DELETE FROM main._scheduler_jobs")
        await rig.pass_time(KEEP_S + LOOK_S)
        await rig.pass_time(LOOK_S)
        assert await rig.app.scheduler.list().count() == 0
        assert faults.count("DELETE FROM main._scheduler_jobs") - before == 4
    assert sizes(path)[1] > 0


async def test_pruning_reads_no_table_from_end_to_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it asks of the file goes through an index: a million jobs that stay cost nothing."""
    faults = Injector()
    faults.install(monkeypatch)
    async with make(path) as rig:
        await rig.app.scheduler.run_many([Call("k:short"), Call("k:third_time"), Call("k:week")])
        await rig.pass_time(60)
        before = dict(faults.counts)
        await rig.pass_time(KEEP_S + LOOK_S)
        await rig.pass_time(LOOK_S)
        assert await rig.app.scheduler.list().count() == 1
    asked = [sql for sql, times in faults.counts.items() if times > before.get(sql, 0) and "_scheduler_" in sql]
    assert any(sql.startswith("DELETE FROM main._scheduler_jobs") for sql in asked)
    assert any(sql.startswith("DELETE FROM main._scheduler_attempts") for sql in asked)
    assert any("prune_at_us <= ?" in sql for sql in asked)
    with closing(sqlite3.connect(path)) as file:
        for sql in asked:
            plan = [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?"))]
            scans = [step for step in plan if step.startswith("SCAN _scheduler")]
            assert scans == [], (sql, plan)
            if sql.startswith("SELECT seq") and "prune_at_us" in sql:
                assert any("_scheduler_jobs_prune" in step for step in plan), plan
                assert not any("TEMP B-TREE" in step for step in plan), plan


async def test_an_app_whose_jobs_all_stay_is_not_woken_for_pruning(path: Path) -> None:
    """No polling: with nothing to forget there is no look."""
    async with make(path) as rig:
        await rig.app.scheduler.run_now("k:ever")
        await rig.pass_time(2 * LOOK_S)
        hops = rig.hops.total
        await rig.pass_time(3_600)
        assert rig.hops.total == hops


# ------------------------------------------------------------------ what goes when


async def test_each_function_says_how_long_its_ended_jobs_are_kept(path: Path) -> None:
    """Ten minutes, the week that is the rule, for ever: counted from completion, by the virtual clock."""
    async with make(path) as rig:
        ids = [await rig.app.scheduler.run_after(5, f"k:{name}") for name in ("short", "week", "ever", "fails")]
        dropped = await rig.app.scheduler.run_after(3_600, "k:short")
        await rig.pass_time(5)
        assert await rig.app.scheduler.cancel(dropped)
        await rig.pass_time(KEEP_S - 1)
        assert await there(rig, *ids, dropped) == [True] * 5
        await rig.pass_time(1 + LOOK_S)
        assert await there(rig, *ids, dropped) == [False, True, True, False, False]
        for moment_us in (KEEP_US, 400 * 86_400 * SECOND_US):
            await rig.kill()
            rig.clock.step(moment_us - SECOND_US if moment_us == KEEP_US else moment_us)
            await rig.start()
            await rig.pass_time(LOOK_S + 1)
            assert await there(rig, *ids[1:3]) == [False, True]


async def test_nothing_is_forgotten_before_its_time_when_the_clock_is_set_back(path: Path) -> None:
    """The wall clock decides: an hour back is an hour longer, and nothing goes twice."""
    async with make(path) as rig:
        job_id = await rig.app.scheduler.run_now("k:short")
        await rig.pass_time(1)
        rig.clock.step(-3_600 * SECOND_US)
        await rig.pass_time(3_600 + KEEP_S - 2)
        assert await there(rig, job_id) == [True]
        await rig.pass_time(2 + LOOK_S)
        assert await there(rig, job_id) == [False]


async def test_what_has_not_ended_is_never_forgotten(path: Path) -> None:
    """Waiting for a year, running for half an hour, and retried: kept from its real end on, not from its first."""
    async with make(path) as rig:
        waits = await rig.app.scheduler.run_after(timedelta(days=1), "k:short")
        runs = await rig.app.scheduler.run_now("k:stand")
        fails = await rig.app.scheduler.run_now("k:fails")
        await rig.pass_time(KEEP_S - 5)
        assert await rig.app.scheduler.retry(fails)
        await rig.pass_time(5 + LOOK_S)
        assert await there(rig, waits, runs, fails) == [True, True, True]
        assert (await rig.job(fails)).attempt == 2
        await rig.pass_time(KEEP_S)
        assert await there(rig, waits, runs, fails) == [True, True, False]
        assert (await rig.job(runs)).state == "in_progress"
        await rig.pass_time(KEEP_S)
        assert (await rig.job(runs)).state == "success", "kept from its end on"
        await rig.pass_time(KEEP_S + LOOK_S)
        assert await there(rig, waits, runs) == [True, False]


async def test_what_grew_old_while_the_app_was_down_goes_after_it_has_started(path: Path) -> None:
    """The start serves its own work first: a minute later what is too old is gone."""
    async with make(path) as rig:
        old = [await rig.app.scheduler.run_now("k:short") for _ in range(3)]
        late = await rig.app.scheduler.run_after(60, "k:week")
        await rig.kill()
        rig.clock.step(86_400 * SECOND_US)
        await rig.start()
        assert (await rig.job(late)).state == "success"
        await rig.pass_time(LOOK_S)
        assert await there(rig, *old) == [False] * 3


@pytest.mark.parametrize("version", sorted(KEPT))
async def test_the_ended_jobs_of_a_kept_file_are_kept_a_week_from_their_end(version: int, path: Path) -> None:
    """Also those that ended under a release that never forgot anything."""
    ended = [row for row in jobs(copy_of(version, path)) if row["state"] in ("success", "failed", "canceled")]
    assert ended
    for moment_us, count in ((LEFT_US + KEEP_US // 2, len(ended)), (LEFT_US + KEEP_US + SECOND_US, 0)):
        rig = ForgettingRig(path, shop(), second_release(), create=False, max_running_actions=2)
        rig.app.schema(SCHEMA)
        rig.clock.move_to(moment_us)
        async with rig:
            await rig.pass_time(LOOK_S)
            left = {row["seq"] for row in jobs(path)}
            assert sum(row["seq"] in left for row in ended) == count


# ------------------------------------------------------------------ what is left of it


async def test_V8_a_forgotten_job_is_unknown_everywhere(path: Path) -> None:
    """Its id gives None or False, never an error; no list, count or view shows it; its number is not used again."""
    async with make(path) as rig:
        scheduler = rig.app.scheduler
        failed = await scheduler.run_now("k:fails")
        done = await scheduler.run_now("k:short", {"text": "x"}, key="k", idempotency_key="once")
        await rig.pass_time(1)
        assert await there(rig, failed, done) == [True, True]
        await rig.pass_time(KEEP_S + LOOK_S)
        for job_id in (failed, done):
            assert await scheduler.get(job_id) is None
            assert await scheduler.cancel(job_id) is False
            assert await scheduler.cancel(job_id, running=True) is False
            assert await scheduler.retry(job_id) is False
            assert await scheduler.drop(job_id) is False
            assert await scheduler.failed_attempts(job_id) == []
            with pytest.raises(InvalidArgs, match="no job"):
                await scheduler.wait(job_id)
        assert await scheduler.cancel(key="k") is False
        assert [job.id async for job in scheduler.list()] == []
        assert await scheduler.list(state="failed").retry() == 0
        assert await scheduler.run_now("k:short") > max(failed, done)
        await rig.restart()
        assert await scheduler.run_now("k:short") > max(failed, done)


async def test_failed_attempts_go_with_their_job(path: Path) -> None:
    """No row is left that belongs to no job, and none of another job goes."""
    async with make(path) as rig:
        first = await rig.app.scheduler.run_now("k:third_time")
        await rig.pass_time(300)
        second = await rig.app.scheduler.run_now("k:third_time")
        await rig.pass_time(10)
        assert [len(await rig.app.scheduler.failed_attempts(job_id)) for job_id in (first, second)] == [2, 2]
        await rig.pass_time(KEEP_S - 300 + LOOK_S)
        assert await there(rig, first, second) == [False, True]
        assert len(await rig.app.scheduler.failed_attempts(second)) == 2
        assert rows(path, "SELECT count(*) FROM _scheduler_attempts") == [(2,)]
        await rig.pass_time(KEEP_S)
    assert rows(path, "SELECT count(*) FROM _scheduler_attempts") == [(0,)]


async def test_an_idempotency_key_is_free_once_its_job_is_forgotten(path: Path) -> None:
    """Until then a resend is the same job or the same answer, and other arguments are a conflict."""
    async with make(path) as rig:
        scheduler, once = rig.app.scheduler, rig.app.idempotent("live")
        first = await scheduler.run_now("k:short", {"text": "a"}, idempotency_key="job")
        assert await once.call("k:short", {"text": "a"}) == "a"
        await rig.pass_time(KEEP_S - 1)
        assert await scheduler.run_now("k:short", {"text": "a"}, idempotency_key="job") == first
        for conflict in (scheduler.run_now("k:short", {"text": "b"}, idempotency_key="job"),
                         once.call("k:short", {"text": "b"})):  # fmt: skip
            with pytest.raises(KeyConflict):
                await conflict
        await rig.pass_time(1 + LOOK_S)
        assert await scheduler.run_now("k:short", {"text": "b"}, idempotency_key="job") != first
        assert await once.call("k:short", {"text": "b"}) == "b"


async def test_a_child_outlives_the_job_that_scheduled_it(path: Path) -> None:
    """Its parent's id stays as it was, and leads nowhere."""
    ns: Namespace[Any] = Namespace("p")

    @ns.mutation(keep=timedelta(seconds=KEEP_S))
    async def parent(ctx: MutationCtx[Any]) -> str:
        return await ctx.scheduler.run_after(7_200, "k:week")

    async with make(path, ns) as rig:
        parent_id = await rig.app.scheduler.run_now("p:parent")
        child_id = (await rig.app.scheduler.wait(parent_id)).result
        await rig.pass_time(7_200)
        child = await rig.job(child_id)
        assert (child.state, child.parent_id) == ("success", parent_id)
        assert await there(rig, parent_id) == [False]


# ------------------------------------------------------------------ when things go wrong


@pytest.mark.parametrize("begins", ["DELETE FROM main._scheduler_jobs", "DELETE FROM main._scheduler_attempts"])
async def test_pruning_that_fails_takes_nothing_by_half_and_is_tried_again(
    begins: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, an I/O error: callers in the same turn are told, and the job goes with its attempts, or not at all."""
    faults = Injector()
    faults.install(monkeypatch)
    async with make(path) as rig:
        job_id = await rig.app.scheduler.run_now("k:third_time")
        await rig.pass_time(60)
        fault = faults.plan(begins)
        await rig.pass_time(KEEP_S)
        assert fault.fired
        known = await there(rig, job_id)
        assert (rows(path, "SELECT count(*) FROM _scheduler_attempts") == [(2,)]) is known[0]
        await rig.pass_time(3 * LOOK_S)
        assert await there(rig, job_id) == [False]
        assert rows(path, "SELECT count(*) FROM _scheduler_attempts") == [(0,)]


async def test_R11_rows_with_garbage_in_their_time_do_not_stop_pruning(path: Path) -> None:
    """A waiting job that a damaged row says is old keeps itself and its attempts, and does not keep others from going."""
    async with make(path) as rig:
        waits = await rig.app.scheduler.run_many([Call("k:short").after(timedelta(days=30))] * (PRUNE_MAX + 1))
        run(
            path,
            "UPDATE _scheduler_jobs SET prune_at_us = 1",
            f"INSERT INTO _scheduler_attempts VALUES ({int(waits[0][:16], 16)}, 1, 1, 1, 1, 'error', 'x')",
        )
        done = await rig.app.scheduler.run_now("k:short")
        await rig.pass_time(KEEP_S + 2 * LOOK_S)
        assert await there(rig, waits[0], waits[-1], done) == [True, True, False]
        assert rows(path, "SELECT count(*) FROM _scheduler_attempts") == [(1,)]


async def test_callers_go_on_while_a_great_backlog_is_forgotten(path: Path) -> None:
    """Queries and calls made meanwhile are answered, and see either a whole job or none."""
    async with make(path) as rig:
        await rig.app.scheduler.run_many([Call("k:short", {"text": str(at)}) for at in range(2 * PRUNE_MAX)])
        await rig.pass_time(1)
        rig.clock.step((KEEP_S + 2 * round(LOOK_S)) * SECOND_US)
        rig.clock.ring()
        seen = []
        for _ in range(50):
            answers = await rig.together(rig.app.scheduler.list().count(), rig.call("k:short", text="live"))
            assert answers[1] == "live"
            seen.append(answers[0])
            await asyncio.sleep(0)
        await rig.rest()
        assert seen == sorted(seen, reverse=True)
        assert await rig.app.scheduler.list().count() == 0
