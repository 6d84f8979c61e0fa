"""The app's own scheduler: the handle of routes, scripts and operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actor_scheduler.errors import InvalidArgs
from actor_scheduler.ids import parse_id
from actor_scheduler.model import TERMINAL, Args, Job
from actor_scheduler.options import check_id, check_note
from actor_scheduler.ports import ActorPort, Running
from actor_scheduler.scheduler import Scheduler
from actor_scheduler.settings import PAUSED, PoolInfo
from actor_scheduler.store.base import Set
from actor_scheduler.times import Delay, delay_us
from runtime.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from actor_scheduler.model import Kind, Overview, Upcoming
    from actor_scheduler.queues import Routing
    from runtime.engine import Engine


class AppScheduler(Scheduler):
    """The app's own scheduler: durable when a call returns, and able to wait."""

    def __init__(self, running: Callable[[], Running], engine: Callable[[], Engine]) -> None:
        port = ActorPort(running)
        super().__init__(port, _LateTargets(engine))
        self._app_port = port
        self._running = running

    async def wait(self, job_id: str, /, *, timeout: Delay | None = None) -> Job:  # noqa: ASYNC109 - on the app's clock
        """Return the job once it has succeeded, failed or been canceled.

        Raises TimeoutError after `timeout` (a timedelta, or seconds, on the app's clock), InvalidArgs when there is no
        such job.
        """
        check_id(job_id)
        if timeout is None:
            return await self._wait(job_id)
        try:
            return await within(self._running().clock, delay_us(timeout, what="timeout"), self._wait(job_id))
        except TimeoutError:
            job = await self.get(job_id)  # it may have ended before it was asked for: a timeout of 0 is a look
            if job is None or job.state not in TERMINAL:
                raise
            return job

    # ------------------------------------------------------------ looking at everything

    def overview(self) -> Coroutine[Any, Any, Overview]:
        """Return how many jobs and crons there are, by what they wait for; ~0.2 s of a reader for a million jobs."""
        return self._app_port.overview()

    def upcoming(self, *, limit: int = 50) -> Coroutine[Any, Any, Sequence[Upcoming]]:
        """Return the next jobs and crons to start, the earliest first, at most `limit` (1 to 1000).

        Also those that wait for their turn in a lane, for a slot or for a pause to end.  Raises InvalidArgs.
        """
        return self._app_port.upcoming(limit)

    # ------------------------------------------------------------ steering everything

    async def pause(self, note: str = "paused") -> None:
        """Start no job any more, on this app and after a restart, until `resume`. Those that run go on.

        What falls due meanwhile waits, and starts in order then.  `note` says who did it, and why.  Durable when this
        returns.
        """
        check_note(note)
        await self._set(Set(PAUSED, note or "paused"))

    async def resume(self) -> None:
        """Start jobs again. Durable when this returns."""
        await self._set(Set(PAUSED, None))

    @property
    def paused(self) -> str | None:
        """The note of the pause that holds; None when none does. Raises NotStarted."""
        return self._running().actor.settings.paused

    async def set_pool(self, name: str, limit: int | None, /) -> None:
        """Let at most `limit` of a pool's actions run at once; 0 pauses it, None goes back to what the app declared.

        Kept over restarts; durable when this returns.  Those that run go on.  Raises InvalidArgs.
        """
        await self._set(self._running().actor.settings.pool(name, limit))

    def pools(self) -> Sequence[PoolInfo]:
        """Return every pool: name, limit, and how many of its actions run. Raises NotStarted."""
        return self._running().actor.settings.pools()

    async def _set(self, unit: Set) -> None:
        await self._running().actor.submit(unit)

    async def _wait(self, job_id: str) -> Job:
        parsed = parse_id(job_id)
        while parsed is not None:
            with self._running().actor.watchers.watch(parsed[0]) as ended:
                job = await self.get(job_id)
                if job is None:
                    break
                if job.state in TERMINAL:
                    return job
                await ended
        msg = f"there is no job {job_id!r}"
        raise InvalidArgs(msg)


class _LateTargets:
    """Targets of an app that may not have started yet."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    @property
    def routing(self) -> Routing:
        return self._engine().routing

    def check(self, path: str, args: Args, function: object) -> tuple[str, Kind, bytes]:
        return self._engine().check(path, args, function)

    def paths(self, path: str) -> tuple[str, ...]:
        return self._engine().paths(path)
