"""Testing an app: the same App object, on a temporary file and a virtual clock.

    async with Harness(app) as h:
        await h.call("trials:start", {"user_id": 7})
        await h.advance(days=30)            # runs what falls due, in order, without sleeping
        assert await h.pending() == []

The store underneath is the real one; only time is virtual.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Self, TypeVar, overload

from typing_extensions import TypeVar as DefaultTypeVar

from actor_scheduler.errors import InvalidTime
from actor_scheduler.model import TERMINAL, Args, Job, State
from actor_scheduler.store.sqlite import SqliteStore
from actor_scheduler.store.sqlite.thread import InlineDb
from actor_scheduler.testing.clock import VirtualClock
from actor_scheduler.testing.nonces import SeededNonces
from actor_scheduler.times import Delay, delay_us, from_datetime, to_datetime
from runtime.functions import Function, Schedulable, path_of

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from types import TracebackType

    from hypothesis.strategies import SearchStrategy

    from runtime.app import App
    from runtime.app_scheduler import AppScheduler
    from runtime.crons import AppCrons

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
AuthT = DefaultTypeVar("AuthT", default=Any)

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PASSES: Final = 3  # of the event loop, for callbacks that an answer has just made ready
_PATIENCE_SECONDS: Final = 10.0  # real time, for an action that waits for something other than the clock


class NotSettled(AssertionError):
    """Virtual time can't go on: an action waits for something that is neither the clock nor the app."""


class Harness(Generic[AuthT]):
    """Runs an app on a temporary file and a virtual clock. `app.scheduler`, routes and lifespan use them too.

    `start` is the virtual time at the beginning (aware); `db` a file to use and keep, instead of a temporary one;
    `seed` decides the ids.  Ended jobs are kept, so that a test can look at them after years; `prune=True` forgets them
    as in production.  With `crons=False` no cron ticks by itself, in tests that are about something else: `run_now` and
    `dispatch` work.  Everything runs on the event loop's own thread, so the same test gives the same run.
    """

    def __init__(
        self,
        app: App[AuthT],
        /,
        *,
        start: datetime = START,
        db: str | os.PathLike[str] | None = None,
        seed: int = 0,
        prune: bool = False,
        crons: bool = True,
    ) -> None:
        if start.utcoffset() is None:
            msg = "start must be an aware datetime"
            raise InvalidTime(msg)
        self.app: Final = app
        self.clock: Final = VirtualClock(from_datetime(start))
        self._db = None if db is None else Path(db)
        self._folder: str | None = None
        self._prunes = prune
        self._ticks = crons
        self._nonces = SeededNonces(seed)
        self._before: dict[str, Any] = {}
        self._seen: set[tuple[str, int]] = set()

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        """Start the app on the virtual clock."""
        app = self.app
        self._before = {
            name: getattr(app, name)
            for name in ("_db", "_clock", "_make_store", "_nonces", "_synchronous", "_in_harness", "_prunes", "_ticks")
        }
        if self._db is None:
            self._folder = tempfile.mkdtemp(prefix="harness-")
            self._db = Path(self._folder) / "app.db"
        app._db = self._db  # noqa: SLF001 - the harness is the one place that puts other parts into an app
        app._clock = self.clock  # noqa: SLF001
        app._make_store = partial(SqliteStore, make_db=InlineDb)  # noqa: SLF001
        app._nonces = self._nonces  # noqa: SLF001
        app._in_harness = True  # noqa: SLF001
        app._prunes = self._prunes  # noqa: SLF001
        app._ticks = self._ticks  # noqa: SLF001
        app._synchronous = "OFF"  # noqa: SLF001 - flushes guard against power cuts, which a test can't have
        try:
            await app._start()  # noqa: SLF001
        except BaseException:
            self._restore()
            raise
        await self.settle()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
        /,
    ) -> None:
        """Stop the app. Actions that still run are interrupted at once."""
        try:
            if self._running():
                self.app._running().actor.attempts.grace_is_over()  # noqa: SLF001
                await self.app._stop()  # noqa: SLF001
        finally:
            self._restore()

    def _restore(self) -> None:
        for name, value in self._before.items():
            setattr(self.app, name, value)
        self.app._overrides.clear()  # noqa: SLF001
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _running(self) -> bool:
        return self.app._engine is not None  # noqa: SLF001

    async def restart(self, *, down_for: Delay = 0, kill: bool = True) -> None:
        """Stop the app, let `down_for` pass, start it again, and settle.

        With `kill`, as a crash: nothing is tidied up, running actions are gone.  Without, as a deploy does it.
        """
        if kill:
            await self.app._stop(kill=True)  # noqa: SLF001
        else:
            self.app._running().actor.attempts.grace_is_over()  # noqa: SLF001
            await self.app._stop()  # noqa: SLF001
        self.clock.move_to(self.clock.now_us() + delay_us(down_for, what="down_for"))
        await self.app._start()  # noqa: SLF001
        await self.settle()

    # ------------------------------------------------------------ time

    @property
    def now(self) -> datetime:
        """The virtual time. Aware, UTC."""
        return to_datetime(self.clock.now_us())

    async def advance(
        self,
        delta: Delay = 0,
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> Sequence[Job]:
        """Let time pass, and run everything that falls due on the way at its own moment, in order.

        Return the jobs that ended meanwhile, in order of completion.  Raises InvalidTime for a negative span.
        """
        named = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        return await self._advance_to(self.clock.now_us() + delay_us(delta) + delay_us(named))

    async def advance_to(self, when: datetime, /) -> Sequence[Job]:
        """Let time pass until `when` (aware), as `advance` does. Raises InvalidTime for a moment in the past."""
        if when.utcoffset() is None or from_datetime(when) < self.clock.now_us():
            msg = f"advance_to takes an aware datetime that is not before {self.now}"
            raise InvalidTime(msg)
        return await self._advance_to(from_datetime(when))

    async def settle(self) -> Sequence[Job]:
        """Run everything that is due now, and what that schedules for now. Return the jobs that ended."""
        return await self._advance_to(self.clock.now_us())

    async def _advance_to(self, target_us: int) -> Sequence[Job]:
        while True:
            await self._settle()
            next_us = self.clock.next_timer_us()
            if next_us is None or next_us > target_us:
                break
            self.clock.move_to(next_us)
        self.clock.move_to(target_us)
        await self._settle()
        return await self._newly_ended()

    async def _settle(self) -> None:
        """Return once nothing can happen without time passing or somebody calling."""
        actor = self.app._running().actor  # noqa: SLF001
        quiet_passes = 0
        while quiet_passes < _PASSES:
            self.clock.ring()
            if actor.quiet:
                await self.app._hooks.heard(_PATIENCE_SECONDS)  # noqa: SLF001
                quiet_passes += 1
                await asyncio.sleep(0)
                continue
            quiet_passes = 0
            try:
                await asyncio.wait_for(actor.stirs(), _PATIENCE_SECONDS)
            except TimeoutError:
                if actor.quiet:
                    continue
                msg = (
                    f"still running after {_PATIENCE_SECONDS:g} real seconds: {actor.attempts.describe() or 'a turn'}:"
                    " it waits for something the virtual clock does not move. Use ctx.sleep, or override what it uses"
                )
                raise NotSettled(msg) from None

    async def _newly_ended(self) -> Sequence[Job]:
        ended = [
            job
            async for job in self.app.scheduler.list()
            if job.state in TERMINAL and (job.id, job.attempt) not in self._seen
        ]
        self._seen.update((job.id, job.attempt) for job in ended)
        return sorted(ended, key=lambda job: (job.completed_at or START, job.id))

    # ------------------------------------------------------------ use

    @property
    def scheduler(self) -> AppScheduler:
        """The app's scheduler."""
        return self.app.scheduler

    @property
    def crons(self) -> AppCrons:
        """The app's crons."""
        return self.app.crons

    @overload
    def call(self, fn: Function[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(self, path: str, args: Args | None = None, /) -> Coroutine[Any, Any, Any]: ...
    def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run a function now, as `app.call` does; `settle` or `advance` then runs what it made due."""
        return self.app.call(fn, *args, **kwargs)

    async def pending(self, fn: Schedulable[..., Any] | str | None = None, /) -> Sequence[Job]:
        """Return the pending jobs (of one function), the earliest first."""
        jobs = await self._jobs(fn, "pending")
        return sorted(jobs, key=lambda job: (job.scheduled_at, job.id))

    async def runs(self, fn: Schedulable[..., Any] | str | None = None, /) -> Sequence[Job]:
        """Return the jobs (of one function) that started, in order of their start."""
        jobs = [job for job in await self._jobs(fn, None) if job.started_at is not None]
        return sorted(jobs, key=lambda job: (job.started_at or START, job.id))

    async def _jobs(self, fn: Schedulable[..., Any] | str | None, state: State | None) -> list[Job]:
        path = None if fn is None else path_of(fn)
        return [job async for job in self.app.scheduler.list(fn=path, state=state)]

    def override(self, provider: Callable[[], Any], value: object, /) -> None:
        """Let `ctx.use(provider)` give `value` while this harness runs."""
        self.app._overrides[provider] = value  # noqa: SLF001


def arguments(fn: Function[..., Any], /) -> SearchStrategy[dict[str, Any]]:
    """Return a Hypothesis strategy of arguments that `fn` accepts, made from its type hints.

    Needs the `hypothesis` package.  What can't be made from a hint alone (a constraint in a validator) is filtered.
    """
    from hypothesis import strategies as st  # noqa: PLC0415 - a test dependency of the app, not of this package

    required, optional = fn.arguments.hints_by_need()
    made = st.fixed_dictionaries(
        {name: st.from_type(hint) for name, hint in required.items()},
        optional={name: st.from_type(hint) for name, hint in optional.items()},
    )
    return made.filter(lambda args: fn.arguments.fits(args, fn.path))


def simulate(
    app: App[A],
    scenario: Callable[[Harness[A]], Awaitable[T]],
    /,
    *,
    start: datetime = START,
    seed: int = 0,
) -> T:
    """Run an async scenario on a Harness from synchronous code, such as a Hypothesis test, and return its result."""

    async def run() -> T:
        async with Harness(app, start=start, seed=seed) as harness:
            return await scenario(harness)

    return asyncio.run(run())
