"""Recovering from a store that broke, and ending while it is broken.

A test that would hang is stopped by a real time limit, which a working product never comes near.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import (
    OutcomeUnknown,
    StoreUnavailable,
)
from actor_scheduler.limits import SECOND_US
from actor_scheduler.store.sqlite.thread import InlineDb
from runtime import ActionCtx, Namespace
from tests.faults.injector import FSYNC, FULL
from tests.faults.rig import make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.injector import Injector

_YEAR = 365 * 86_400


@pytest.fixture
def ns() -> Namespace[Any]:
    """An action that ends at once."""
    ns: Namespace[Any] = Namespace("p")

    @ns.action
    async def noop(ctx: ActionCtx[Any]) -> int:
        return 1

    return ns


# ---------------------------------------------------------------- recovering, and ending


async def test_R4_reopening_that_fails_in_an_odd_way_is_not_tried_in_a_busy_loop(path: Path, faults: Injector) -> None:
    """Whatever reopening raises (here: no more threads), the next try waits for the clock."""
    async with make(path) as rig:
        faults.plan("COMMIT", FSYNC)
        tries, reopen = 0, rig.store.reopen

        async def fails(running: Any) -> None:
            nonlocal tries
            tries += 1
            if tries < 100:
                raise RuntimeError("can't start new thread")
            await reopen(running)

        rig.store.reopen = fails
        assert isinstance(await rig.attempt("l:put", who="x"), OutcomeUnknown)
        for _ in range(50):
            await asyncio.sleep(0)
        assert tries <= 2
        tries = 100


async def test_C2_recovery_does_not_wait_for_a_wall_clock_that_stepped_back(path: Path, faults: Injector) -> None:
    """A clock set back by a year between two tries to reopen does not delay the next try by a year."""
    async with make(path) as rig:
        faults.plan("COMMIT", FSYNC)
        faults.plan("connect", "SQLITE_CANTOPEN")
        assert isinstance(await rig.attempt("l:put", who="x"), OutcomeUnknown)
        await rig.rest()
        rig.clock.step(-_YEAR * SECOND_US)
        await rig.pass_time(60)
        assert rig.actor.broken is None


async def test_C2_due_work_on_hold_does_not_wait_for_a_wall_clock_that_stepped_back(
    path: Path, faults: Injector
) -> None:
    """A clock set back by an hour while a full disk holds due work does not hold it for that hour."""
    async with make(path) as rig:
        job_id = await rig.app.scheduler.run_after(1, "l:put", {"who": "x"})
        await rig.kill()
        rig.clock.step(7200 * SECOND_US)
        faults.plan("INSERT INTO ledger", FULL, ends=True)
        await rig.start()
        rig.clock.step(-3600 * SECOND_US)
        await rig.pass_time(60)
        assert (await rig.job(job_id)).state == "success"


async def test_R4_queries_in_the_broken_state_get_store_unavailable(path: Path, faults: Injector) -> None:
    """While the store is being reopened, a query is told that, not that the app was never started."""
    async with make(path) as rig:
        faults.plan("COMMIT", FSYNC)
        faults.plan("connect", "SQLITE_CANTOPEN")
        await rig.attempt("l:put", who="x")
        await rig.rest()
        assert isinstance(await rig.attempt("l:names"), StoreUnavailable)


async def test_R4_the_error_of_a_broken_store_does_not_grow(path: Path, faults: Injector) -> None:
    """Each refused caller gets an error of its own: a shared one would keep every caller's frames alive."""
    async with make(path) as rig:
        faults.plan("COMMIT", FSYNC)
        faults.plan("connect", "SQLITE_CANTOPEN")
        await rig.attempt("l:put", who="x")
        await rig.rest()
        first, second = await rig.attempt("l:put", who="y"), await rig.attempt("l:put", who="z")
        assert isinstance(first, StoreUnavailable)
        assert first is not second


@pytest.mark.parametrize("begins", ["COMMIT", "UPDATE main._scheduler_meta", "BEGIN IMMEDIATE"])
async def test_T2_a_failed_reservation_of_numbers_stops_the_turn(path: Path, faults: Injector, begins: str) -> None:
    """Nothing goes on after a flush that failed: the turn is definitely not done, and the store is reopened first."""
    async with make(path) as rig:
        writer = rig.store._writer
        writer._reserved = writer._reserving = writer.next_seq
        fault = faults.plan(begins, FSYNC)
        refused = await rig.attempt("l:put", who="x")
        assert fault.fired
        assert isinstance(refused, StoreUnavailable)
        await rig.rest()
        assert rig.actor.broken is None
        assert rig.store._writer is not writer
        assert await rig.call("l:put", who="y") == "y"
        assert await rig.call("l:names") == ["y"]


async def test_S1_stopping_with_a_full_disk_ends(path: Path, ns: Namespace[Any], faults: Injector) -> None:
    """A completion that the disk has no room for does not keep the app from stopping."""
    rig = make(path, ns)
    async with rig:
        await rig.app.scheduler.run_now("p:noop")
        faults.plan("UPDATE main._scheduler_jobs SET state = ?, completed", FULL, ends=True, times=None)
        await rig.rest()
        try:
            await asyncio.wait_for(rig.stop(), 2)
            assert rig.app.unready_reason == "the app is not running"
        finally:
            faults.heal()


async def test_S1_stopping_while_the_store_breaks_ends(path: Path, faults: Injector) -> None:
    """The last turn breaks the store and it can't be reopened: the stop ends all the same."""
    async with make(path) as rig:
        faults.plan("COMMIT", FSYNC)
        faults.plan("connect", "SQLITE_CANTOPEN", times=None)
        last = asyncio.ensure_future(rig.attempt("l:put", who="x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.wait_for(rig.stop(), 2)
        assert isinstance(await last, OutcomeUnknown)


async def test_S2_a_stop_that_is_canceled_lets_go_of_the_file(path: Path) -> None:
    """A lifespan canceled while it stops is as a crash: nothing goes on running, and the app can start again."""
    rig = make(path, lock_timeout=0)
    async with rig:
        stopping = asyncio.ensure_future(rig.app._stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await rig.start()
        assert await rig.call("l:put", who="a") == "a"


# ---------------------------------------------------------------- due work that needs an identity


async def test_L1_due_work_is_not_lost_when_the_resolver_is_canceled(path: Path, ns: Namespace[Any]) -> None:
    """An auth resolver that raises CancelledError (a client library's own timeout) does not make due jobs vanish."""
    raised = 0

    async def auth(request: Any) -> None:
        nonlocal raised
        raised += 1
        if raised == 1:
            raise asyncio.CancelledError

    async with make(path, ns, auth=auth) as rig:
        job_id = await rig.app.scheduler.run_after(1, "l:put", {"who": "x"})
        await rig.pass_time(120)
        assert (await rig.job(job_id)).state in {"success", "failed"}


async def test_S6_an_action_is_not_started_twice_when_the_store_breaks_under_its_preparation(
    path: Path, faults: Injector
) -> None:
    """Due entries whose preparation outlives a rebuilt index are not put into it a second time."""
    ns: Namespace[Any] = Namespace("a")
    started: list[str] = []

    @ns.action
    async def act(ctx: ActionCtx[Any]) -> None:
        started.append(ctx.idempotency_key)

    async def auth(request: Any) -> None:
        return None

    async with make(path, ns, auth=auth, db=InlineDb) as rig:
        job_id = await rig.app.scheduler.run_after(1, "a:act")
        query, slow = rig.store.query, asyncio.Event()

        async def failing(body: Any, limit_us: int | None = None) -> Any:
            rig.store.query = query
            await slow.wait()
            raise StoreUnavailable("the read failed as well")

        rig.store.query = failing
        await rig.pass_time(1)
        faults.plan("COMMIT", FSYNC)
        assert isinstance(await rig.attempt("l:put", who="x"), OutcomeUnknown)
        await rig.rest()
        assert await rig.call("l:put", who="y") == "y"  # its turn fills the new index
        slow.set()
        await rig.pass_time(60)
        assert (await rig.job(job_id)).state == "success"
        assert len(started) == 1
