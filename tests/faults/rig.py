"""An app on the real store and a virtual clock, for tests in which the store fails.

Unlike the public Harness, it can let time pass while the database is broken, and it notices a busy loop.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from actor_scheduler.limits import SECOND_US
from actor_scheduler.store.sqlite import SqliteStore
from actor_scheduler.store.sqlite.thread import InlineDb, ThreadDb
from actor_scheduler.testing.clock import VirtualClock
from actor_scheduler.testing.nonces import SeededNonces
from runtime import App, MutationCtx, Namespace, QueryCtx

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from actor_scheduler.actor import Actor
    from actor_scheduler.model import Job

_PASSES: Final = 30  # of the event loop, after which nothing but time or a caller can move the app
_HOPS_MAX: Final = 400  # to the database without time passing: more is a busy loop


class Hops:
    """How many calls are under way on a database's thread, and how many there were."""

    def __init__(self) -> None:
        self.under_way = 0
        self.total = 0
        self.closing: list[asyncio.Future[Any]] = []  # threads told to end; the loop must outlive them
        self._ended = asyncio.Event()

    async def count(self, work: Coroutine[Any, Any, Any]) -> Any:
        self.under_way += 1
        self.total += 1
        try:
            return await work
        finally:
            self.under_way -= 1
            self._ended.set()

    async def one_ends(self) -> None:
        self._ended.clear()
        await self._ended.wait()


def counted(kind: type[InlineDb | ThreadDb], hops: Hops) -> Callable[..., Any]:
    """Return this kind of database connection, its hops counted."""

    class Counted(kind):  # type: ignore[valid-type,misc]
        async def connect(self) -> Any:
            return await hops.count(super().connect())

        async def run(self, work: Callable[[], Any]) -> Any:
            return await hops.count(super().run(work))

        def abandon(self) -> None:
            if kind is InlineDb:
                super().abandon()
            elif (ending := self._aio.stop()) is not None:
                hops.closing.append(ending)

    return Counted


class Rig:
    """One app that is started, broken, killed and started again."""

    def __init__(
        self, path: str | os.PathLike[str], *namespaces: Namespace[Any], db: Any = InlineDb, **options: Any
    ) -> None:
        self.clock = VirtualClock()
        self.app: App[Any] = App(path, namespaces=namespaces, clock=self.clock, **options)
        self.path = path
        self._db = db
        self.hops = Hops()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        await asyncio.gather(*self.hops.closing)

    async def start(self) -> None:
        """Start the app, and let it come to rest."""
        self.hops.total = 0
        make_db = counted(self._db, self.hops)
        self.app._prunes = False  # so that what happened can still be looked at after years
        self.app._make_store = partial(SqliteStore, make_db=make_db, nonces=SeededNonces(0))
        await self.app._start()
        await self.rest()

    async def stop(self) -> None:
        """Stop as a deploy does; actions that still run are interrupted at once."""
        self.actor.attempts.grace_is_over()
        await self.app._stop()

    async def kill(self) -> None:
        """Stop as a crash does."""
        await self.app._stop(kill=True)

    async def restart(self) -> None:
        """Kill and start again."""
        await self.kill()
        await self.start()

    @property
    def actor(self) -> Actor:
        return self.app._running().actor

    @property
    def store(self) -> Any:
        return self.app._running().store

    # ------------------------------------------------------------ time

    async def rest(self) -> None:
        """Return once nothing can happen unless time passes or somebody calls. A busy loop fails the test."""
        before, passes = self.hops.total, 0
        while passes < _PASSES:
            if self.hops.under_way:
                await self.hops.one_ends()
                passes = 0
            hops = self.hops.total
            await asyncio.sleep(0)
            passes = passes + 1 if hops == self.hops.total else 0
            assert self.hops.total - before < _HOPS_MAX, "the app loops without time passing"

    async def pass_time(self, seconds: float) -> None:
        """Let virtual time pass, stopping at every timer on the way."""
        target_us = self.clock.now_us() + round(seconds * SECOND_US)
        await self.rest()
        while (next_us := self.clock.next_timer_us()) is not None and next_us <= target_us:
            self.clock.move_to(next_us)
            await self.rest()
        self.clock.move_to(target_us)
        await self.rest()

    # ------------------------------------------------------------ use

    def call(self, path: str, **args: Any) -> Coroutine[Any, Any, Any]:
        return self.app.call(path, args)

    async def attempt(self, path: str, **args: Any) -> Any:
        """Call, and return the answer or the error."""
        return (await asyncio.gather(self.app.call(path, args), return_exceptions=True))[0]

    async def together(self, *calls: Coroutine[Any, Any, Any]) -> list[Any]:
        """Make calls that share one turn, and return their answers or errors."""
        return await asyncio.gather(*calls, return_exceptions=True)

    async def job(self, job_id: str) -> Job:
        job = await self.app.scheduler.get(job_id)
        assert job is not None
        return job


SCHEMA: Final = """
    CREATE TABLE ledger (n INTEGER PRIMARY KEY, who TEXT NOT NULL UNIQUE);
    CREATE TABLE parents (id INTEGER PRIMARY KEY);
    CREATE TABLE children (id INTEGER PRIMARY KEY,
        parent INTEGER NOT NULL REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE guarded (id INTEGER PRIMARY KEY);
    CREATE TRIGGER guard BEFORE INSERT ON guarded WHEN new.id < 0
        BEGIN SELECT raise(ROLLBACK, 'the guard ended it'); END;
"""


def ledger() -> Namespace[Any]:
    """Return the functions most tests use: they write names into a table and read them back."""
    ns: Namespace[Any] = Namespace("l")

    @ns.mutation
    async def put(ctx: MutationCtx[Any], *, who: str) -> str:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES (?)", [who])
        return who

    @ns.query
    async def names(ctx: QueryCtx[Any]) -> list[str]:
        return [row[0] for row in await ctx.db.fetch_all("SELECT who FROM ledger ORDER BY n")]

    return ns


def make(path: Path, *namespaces: Namespace[Any], **options: Any) -> Rig:
    """Return a rig with the ledger, and what else a test needs.

    Without a flush at each commit: no test here cuts the power, and the statements are the same.
    """
    options.setdefault("synchronous", "NORMAL")
    rig = Rig(path, ledger(), *namespaces, **options)
    rig.app.schema(SCHEMA)
    return rig
