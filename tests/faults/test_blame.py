"""Whoever is to blame fails alone: bad input, damaged rows, odd errors and a bad disk cost nobody else anything.

A test that would hang is stopped by a real time limit, which a working product never comes near.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import (
    ActorSchedulerError,
    ContextClosed,
    IntegrityError,
    InvalidArgs,
    KeyConflict,
    StoreUnavailable,
)
from actor_scheduler.limits import SECOND_US
from actor_scheduler.store.sqlite.thread import ThreadDb
from runtime import ActionCtx, Call, FunctionError, MutationCtx, Namespace, QueryCtx
from tests.faults.injector import CORRUPT, FSYNC, IOERR, rows
from tests.faults.rig import make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.injector import Injector

_YEAR = 365 * 86_400


class Unprintable(BaseException):
    """An error whose own text can't be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


class HostileMap(dict[str, int]):
    """A result that can't be walked."""

    def values(self) -> Any:
        raise KeyError("hostile")


@pytest.fixture
def ns() -> Namespace[Any]:
    """Functions that misbehave."""
    ns: Namespace[Any] = Namespace("p")

    @ns.action
    async def noop(ctx: ActionCtx[Any]) -> int:
        return 1

    @ns.mutation
    async def data(ctx: MutationCtx[Any]) -> None:
        raise FunctionError("X", "m", 5)  # type: ignore[arg-type]

    @ns.mutation
    async def code(ctx: MutationCtx[Any]) -> None:
        raise FunctionError("\ud800", "m")

    @ns.action
    async def action_code(ctx: ActionCtx[Any]) -> None:
        raise FunctionError("\ud800", "m")

    @ns.mutation
    async def unprintable(ctx: MutationCtx[Any]) -> None:
        raise Unprintable

    @ns.query
    async def canceled(ctx: QueryCtx[Any]) -> None:
        raise asyncio.CancelledError

    @ns.query
    async def exits(ctx: QueryCtx[Any]) -> None:
        raise SystemExit(3)

    @ns.mutation
    async def big_result(ctx: MutationCtx[Any]) -> str:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('big')")
        return "x" * 60_000

    @ns.mutation
    async def many_rows(ctx: MutationCtx[Any]) -> None:
        await ctx.db.execute(
            "INSERT INTO ledger (who) WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up LIMIT 5000)"
            " SELECT 'row ' || n FROM up"
        )

    @ns.mutation
    async def hostile(ctx: MutationCtx[Any]) -> HostileMap:
        return HostileMap(a=1)

    return ns


# ---------------------------------------------------------------- one bad input stops everybody


@pytest.mark.parametrize("path_", ["p:data", "p:code", "p:action_code"])
async def test_H1_a_function_error_that_cannot_be_stored_fails_its_own_job_only(
    path: Path, ns: Namespace[Any], path_: str
) -> None:
    """FunctionError with data that is no map, or a code that is no UTF-8, is one failed job; other due jobs run."""
    async with make(path, ns) as rig:
        job_id = await rig.app.scheduler.run_after(1, path_)
        other = await rig.app.scheduler.run_after(1, "l:put", {"who": "other"})
        await rig.pass_time(60)
        assert (await rig.job(other)).state == "success"
        assert (await rig.job(job_id)).state == "failed"


@pytest.mark.parametrize("what", ["surrogate key", "key of a wrong type", "id of a wrong type", "surrogate once"])
async def test_R11_a_key_that_cannot_be_bound_is_refused_alone(path: Path, ns: Namespace[Any], what: str) -> None:
    """What one caller passes as a key or an id never costs its turn-mates their answers, nor breaks the store."""
    async with make(path, ns) as rig:
        scheduler: Any = rig.app.scheduler
        calls = {
            "surrogate key": lambda: scheduler.run_now("p:noop", key="\ud800"),
            "key of a wrong type": lambda: scheduler.cancel(key=["x"]),
            "id of a wrong type": lambda: scheduler.retry(None),
            "surrogate once": lambda: rig.app.idempotent("\ud800").call("l:put", {"who": "z"}),
        }

        async def wrong() -> Any:
            return await calls[what]()

        first, refused, last = await rig.together(rig.call("l:put", who="a"), wrong(), rig.call("l:put", who="b"))
        assert (first, last) == ("a", "b")
        assert isinstance(refused, InvalidArgs)


@pytest.mark.parametrize("path_", ["l:put", "p:noop"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("path", "CAST(x'ff' AS TEXT)"),
        ("kind", "CAST(x'ff' AS TEXT)"),
        ("occurrence_id", "CAST(x'ff' AS TEXT)"),
        ("attempt", "9223372036854775807"),
        ("scheduled_at_us", "9223372036854775807"),
        ("created_at_us", "-9223372036854775808"),
        ("queue", "'nowhere'"),
    ],
)
async def test_R11_a_damaged_row_fails_alone_and_can_be_read(
    path: Path, ns: Namespace[Any], path_: str, column: str, value: str
) -> None:
    """Text that is no UTF-8 and numbers out of range at rest: that job fails, others run, get and list answer."""
    async with make(path, ns) as rig:
        args = {"who": "damaged"} if path_ == "l:put" else {}
        job_id = await rig.app.scheduler.run_after(1, path_, args)
        other = await rig.app.scheduler.run_after(1, "l:put", {"who": "other"})
        await rig.kill()
        rows(path, f"UPDATE _scheduler_jobs SET {column} = {value} WHERE seq = 1")
        await rig.start()
        await rig.pass_time(60)
        assert (await rig.job(other)).state == "success"
        assert len((await rig.app.scheduler.list().page()).items) == 2
        # A moment that can't be shown still leaves a job that runs, as does a queue nobody serves: it gets the default.
        runs_on = column.endswith("_us") or column == "queue"
        assert (await rig.job(job_id)).state in ({"success", "failed"} if runs_on else {"failed"})


async def test_H2_an_error_without_a_text_leaves_no_caller_waiting(path: Path, ns: Namespace[Any]) -> None:
    """A BaseException whose __str__ raises is its caller's answer; whoever shares the turn is answered too."""
    async with make(path, ns) as rig:
        calls = rig.together(rig.call("p:unprintable"), rig.call("l:put", who="b"))
        failed, mate = await asyncio.wait_for(calls, 2)
        assert isinstance(failed, Exception)
        assert mate == "b"


def test_H2_a_query_that_exits_does_not_stop_the_loop(path: Path, ns: Namespace[Any], db: Any) -> None:
    """SystemExit in a query is an error of its caller: the event loop goes on."""

    async def run() -> Any:
        async with make(path, ns, db=db) as rig:
            return await rig.attempt("p:exits"), await rig.attempt("l:put", who="a")

    failed, after = asyncio.run(run())
    assert isinstance(failed, Exception)
    assert after == "a"


async def test_H2_a_query_that_raises_cancellation_does_not_cancel_its_caller(path: Path, ns: Namespace[Any]) -> None:
    """Nobody canceled the caller, so it gets an ordinary error, as it does from a mutation."""
    async with make(path, ns) as rig:
        with pytest.raises(Exception, match="CancelledError"):
            await rig.call("p:canceled")


# ---------------------------------------------------------------- the disk is to blame, not the job


@pytest.mark.parametrize("name", [IOERR, CORRUPT])
async def test_D3_a_fault_at_the_completion_does_not_fail_the_job(path: Path, faults: Injector, name: str) -> None:
    """An I/O error while a mutation's success is being written is the store's: the job runs once it is reopened."""
    async with make(path) as rig:
        faults.plan("UPDATE main._scheduler_jobs SET state = ", name)
        job_id = await rig.app.scheduler.run_after(1, "l:put", {"who": "x"})
        await rig.pass_time(60)
        assert (await rig.job(job_id)).state == "success"
        assert await rig.call("l:names") == ["x"]


@pytest.mark.parametrize("begins", ["SAVEPOINT unit", "RELEASE unit"])
async def test_D3_a_savepoint_that_fails_with_the_file_is_definitely_not_done(
    path: Path, faults: Injector, begins: str
) -> None:
    """Refused means not done: a mutation whose savepoint could not be opened or released has no effect."""
    async with make(path) as rig:
        faults.plan(begins, IOERR)
        failed, _ = await rig.together(rig.call("l:put", who="a"), rig.call("l:put", who="mate"))
        assert isinstance(failed, StoreUnavailable)
        await rig.pass_time(10)
        assert "a" not in await rig.call("l:names")


@pytest.mark.parametrize("path_", ["p:big_result", "p:many_rows"])
async def test_D2_a_due_job_that_finds_the_disk_full_waits(path: Path, ns: Namespace[Any], path_: str) -> None:
    """Full while the result is stored, or in a statement that SQLite could undo alone: the job stays pending."""
    async with make(path, ns) as rig:
        job_id = await rig.app.scheduler.run_after(1, path_)
        raw, pages = rig.store._connection.raw, rows(path, "PRAGMA page_count")[0][0]
        raw.execute(f"PRAGMA max_page_count = {pages + 3}")
        await rig.pass_time(60)
        assert (await rig.job(job_id)).state == "pending"
        raw.execute("PRAGMA max_page_count = 100000")
        await rig.pass_time(10)
        assert (await rig.job(job_id)).state == "success"


async def test_T2_the_failure_of_the_blamed_one_committing_unknown_is_said_so(path: Path, faults: Injector) -> None:
    """When recording a culprit's failure ends unknown, turn-mates that did commit are still told so."""
    ns: Namespace[Any] = Namespace("o")

    @ns.mutation
    async def orphan(ctx: MutationCtx[Any]) -> None:
        await ctx.db.execute("INSERT INTO children (parent) VALUES (7)")

    async with make(path, ns) as rig:
        await rig.app.scheduler.run_after(1, "o:orphan")
        await rig.rest()
        rig.clock.step(SECOND_US)
        fault = faults.plan("COMMIT", FSYNC, skip=3)  # both; the mate; the culprit alone; then its failure
        answer = await rig.attempt("l:put", who="mate")
        assert fault.fired
        assert answer == "mate"


async def test_D3_a_reader_that_could_not_end_its_snapshot_is_not_used_again(path: Path, faults: Injector) -> None:
    """One failed ROLLBACK of a read costs one query, not every later one that gets this reader."""
    async with make(path) as rig:
        await rig.call("l:put", who="a")
        faults.plan("ROLLBACK", IOERR, on="reader")
        await rig.attempt("l:names")
        assert await rig.call("l:names") == ["a"]


async def test_D3_a_reader_that_could_not_be_equipped_leaves_no_thread(path: Path, faults: Injector) -> None:
    """Readers that fail while they are opened are closed again: no thread and no descriptor stays for each."""
    async with make(path, db=ThreadDb) as rig:
        faults.plan("PRAGMA query_only", IOERR, on="reader", times=5)
        before = threading.active_count()
        for _ in range(5):
            assert isinstance(await rig.attempt("l:names"), StoreUnavailable)
        assert threading.active_count() <= before + 1


# ---------------------------------------------------------------- whole calls


async def test_H4_the_scheduler_of_an_ended_action_is_closed(path: Path, ns: Namespace[Any]) -> None:
    """A child task that outlives its action can't schedule with the ctx it kept."""
    kept: list[Any] = []

    @ns.action
    async def keeps(ctx: ActionCtx[Any]) -> None:
        kept.append(ctx.scheduler)

    async with make(path, ns) as rig:
        await rig.call("p:keeps")
        with pytest.raises(ContextClosed):
            await kept[0].run_now("p:noop")


async def test_H7_an_action_called_on_the_app_inside_a_mutation_is_refused(path: Path) -> None:
    """app.call of an action inside a mutation would do its outside effects once for each try of the turn."""
    ns: Namespace[Any] = Namespace("x")
    did: list[int] = []

    @ns.action
    async def act(ctx: ActionCtx[Any]) -> None:
        did.append(1)

    @ns.mutation
    async def mutation(ctx: MutationCtx[Any]) -> None:
        await rig.app.call("x:act")

    rig = make(path, ns)
    async with rig:
        assert isinstance(await rig.attempt("x:mutation"), ActorSchedulerError)
        assert did == []


async def test_H9_a_result_that_cannot_be_walked_does_not_fail_the_job(path: Path, ns: Namespace[Any]) -> None:
    """The outcome of a job never depends on whether its result can be kept."""
    async with make(path, ns) as rig:
        job_id = await rig.app.scheduler.run_now("p:hostile")
        await rig.rest()
        assert (await rig.job(job_id)).state == "success"


async def test_S9_run_many_in_a_mutation_stores_all_or_none(path: Path, ns: Namespace[Any]) -> None:
    """A mutation that catches the KeyConflict of run_many has scheduled nothing of it."""

    @ns.mutation
    async def many(ctx: MutationCtx[Any]) -> str:
        try:
            await ctx.scheduler.run_many(
                [Call("p:noop").after(9), Call("p:noop").after(5, key="k", on_conflict="error")]
            )
        except KeyConflict:
            return "caught"
        return "stored"

    async with make(path, ns) as rig:
        await rig.app.scheduler.run_after(100, "p:noop", key="k")
        assert await rig.call("p:many") == "caught"
        assert await rig.app.scheduler.list().count() == 1


async def test_R6_an_idempotency_key_used_by_its_own_mutation_is_a_key_conflict(path: Path, ns: Namespace[Any]) -> None:
    """A live mutation that gives its own idempotency key to a job is told so, in an error of ours."""

    @ns.mutation
    async def reuses(ctx: MutationCtx[Any]) -> None:
        await ctx.scheduler.run_after(5, "p:noop", idempotency_key="k")

    async with make(path, ns) as rig:
        with pytest.raises((KeyConflict, IntegrityError)):
            await rig.app.idempotent("k").call("p:reuses")


async def test_T4_a_query_never_reads_a_file_that_was_put_in_place_of_ours(path: Path) -> None:
    """A reader opened after the file was replaced refuses, rather than answer from the other file."""
    ns: Namespace[Any] = Namespace("q")

    @ns.query
    async def names(ctx: QueryCtx[Any]) -> list[str]:
        return [row[0] for row in await ctx.db.fetch_all("SELECT who FROM ledger")]

    async with make(path, ns) as rig:
        await rig.call("l:put", who="old")
        await rig.kill()
        shutil.copy(path, path.with_name("copy.db"))
        await rig.start()
        await rig.call("l:put", who="new")
        path.with_name("copy.db").replace(path)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        assert isinstance(await rig.attempt("q:names"), StoreUnavailable)
