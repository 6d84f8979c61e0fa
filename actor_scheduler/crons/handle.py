"""The public handle of crons: register, change, pause, run, look. The same class in a mutation, an action and the app.

What differs is the port behind it: in a mutation everything is part of the mutation's transaction, elsewhere it is
durable before the call returns.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, get_args

from typing_extensions import Unpack

from actor_scheduler.crons.definition import CronJob, CronOptions, Faults, check_faults, define, revise
from actor_scheduler.errors import InvalidArgs, InvalidCron, LimitExceeded, UnknownCron, storable
from actor_scheduler.limits import CALL_ARGS_BYTES_MAX, CALL_JOBS_MAX, PAGE_MAX
from actor_scheduler.model import State
from actor_scheduler.options import check_note
from actor_scheduler.store.cron_units import ChangeCron, DeleteCron, PauseCron, PutCron, ResumeCron, RunCron
from actor_scheduler.times import Instant, from_datetime, instant_us, to_datetime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence
    from datetime import datetime

    from actor_scheduler.crons.definition import Check, Target
    from actor_scheduler.crons.records import CronInfo, CronRun, RunState
    from actor_scheduler.crons.schedule import Schedule
    from actor_scheduler.model import Args, Page
    from actor_scheduler.store.cron_units import CronUnit

_RUN_STATES: Final = frozenset({*get_args(State), "skipped"})
TICKS_MAX: Final = 1_000  # of one preview
PAGE: Final = 500  # crons read at once while a list is walked: ~5 ms of a reader


class CronPort(Protocol):
    """Where crons go: into the running transaction, or to the actor."""

    bounded: bool  # whether one call's limits hold

    def now_us(self) -> int:
        """Return the time of this place."""
        ...

    def change_cron(self, unit: CronUnit) -> Coroutine[Any, Any, Any]:
        """Do what is wanted of a cron, and return the answer."""
        ...

    def get_cron(self, name: str) -> Coroutine[Any, Any, CronInfo | None]:
        """Return how a cron stands, or None."""
        ...

    def list_crons(self, prefix: str, after: str | None, limit: int) -> Coroutine[Any, Any, Page[CronInfo]]:
        """Return one page of crons, by name."""
        ...

    def cron_runs(
        self, name: str | None, limit: int, before_us: int | None, state: RunState | None
    ) -> Coroutine[Any, Any, list[CronRun]]:
        """Return what became of the newest ticks."""
        ...

    def cron_runs_page(
        self, name: str | None, state: RunState | None, cursor: str | None, limit: int
    ) -> Coroutine[Any, Any, Page[CronRun]]:
        """Return one page of what became of ticks."""
        ...


class Crons:
    """Crons at run time: one for each user, say. They survive restarts, and no deploy touches them.

    Everything is checked when it is said: name, schedule, target, arguments, options; a call that raises has changed
    nothing.  Crons that the code defines can be paused, resumed and run from here, but not changed or deleted.

    In a mutation, changes commit or roll back with it.  Elsewhere they are durable when the call returns.
    """

    def __init__(self, port: CronPort, check: Check) -> None:
        self._port = port
        self._check = check
        self._changes_left = CALL_JOBS_MAX
        self._bytes_left = CALL_ARGS_BYTES_MAX

    # ------------------------------------------------------------ changing

    def register(
        self,
        name: str,
        schedule: Schedule | str,
        target: Target,
        args: Args | None = None,
        /,
        **options: Unpack[CronOptions],
    ) -> Coroutine[Any, Any, None]:
        """Let there be this cron; one of the same name becomes what is said here. The same again changes nothing.

        `target` is a path, a function that needs no arguments, or `fn.bind(…)`.  An interval runs at once, then every
        so often.  Raises InvalidCron with every field that is wrong, also when the code defines a cron of that name.
        """
        definition = define(CronJob(name, schedule, target, args, **options))
        spec = definition.spec(self._check)
        return self._change(PutCron(spec), len(spec.args))

    def update(
        self,
        name: str,
        /,
        *,
        schedule: Schedule | str | None = None,
        target: Target | None = None,
        **options: Unpack[CronOptions],
    ) -> Coroutine[Any, Any, None]:
        """Change what is given, and leave the rest; with a schedule, its ticks are computed anew from now.

        A path as `target` keeps the arguments, `fn.bind(…)` brings its own.  Raises UnknownCron; InvalidCron with every
        field that is wrong, also when the code defines the cron.
        """
        faults = Faults(name)
        revision = revise(name, schedule, target, options, faults)
        check_faults(faults.found)
        assert revision is not None
        return self._change(ChangeCron(name, partial(revision.of, check=self._check), schedule is not None))

    def delete(self, name: str, /) -> Coroutine[Any, Any, bool]:
        """Forget a cron, and return whether there was one; a run of its own may do that.

        Its ticks that wait to run are skipped; a run that has begun goes on, and its history stays.  Raises InvalidCron
        when the code defines the cron.
        """
        _check_text(name)
        return self._change(DeleteCron(name))

    def pause(self, name: str, /, *, note: str = "") -> Coroutine[Any, Any, None]:
        """Let no tick of a cron run until it is resumed, over restarts too. `note` says who did it, and why.

        What waits to start is skipped, on record; what runs goes on.  Raises UnknownCron.
        """
        _check_text(name)
        check_note(note)
        return self._change(PauseCron(name, note))

    def resume(self, name: str, /) -> Coroutine[Any, Any, None]:
        """Let a cron go on. What it missed meanwhile is treated by its `missed_tick_policy`. Raises UnknownCron.

        One that is ahead of the clock, which was set back, counts from now.
        """
        _check_text(name)
        return self._change(ResumeCron(name))

    def run_now(self, name: str, /, *, scheduled_at: Instant | None = None) -> Coroutine[Any, Any, str]:
        """Run a cron's target now, on the path a tick takes, and return the job's id; its schedule does not move.

        The run's invoker has the source "admin"; `scheduled_at` is what it is told, now unless given.  A paused or
        disabled cron runs, too.  Unless `overlap` is `allow`, it waits for a run that has not ended.

        Raises UnknownCron, InvalidTime.
        """
        _check_text(name)
        at_us = None if scheduled_at is None else instant_us(scheduled_at, self._port.now_us())
        return self._change(RunCron(name, at_us))

    def _change(self, unit: CronUnit, size: int = 0) -> Coroutine[Any, Any, Any]:
        if self._port.bounded:
            self._changes_left -= 1
            self._bytes_left -= size
            if self._changes_left < 0:
                msg = f"one function call may change at most {CALL_JOBS_MAX} crons: schedule one that changes the rest"
                raise LimitExceeded(msg)
            if self._bytes_left < 0:
                msg = f"one function call may register at most {CALL_ARGS_BYTES_MAX} bytes of arguments in all"
                raise LimitExceeded(msg)
        return self._port.change_cron(unit)

    # ------------------------------------------------------------ looking

    async def next_ticks(self, name: str, n: int = 5, /) -> Sequence[datetime]:
        """Return the next `n` ticks (1 to 1000), jitter aside; fewer where the schedule ends, with the year 2199.

        Of a cron that does not fire by itself, as it is paused, say: the ticks it would have from now on.  Raises
        UnknownCron; InvalidCron for one that can't go on.
        """
        _check_text(name)
        _check_number("n", n, TICKS_MAX)
        info = await self._port.get_cron(name)
        if info is None:
            msg = f"there is no cron called {name!r:.200}"
            raise UnknownCron(msg)
        if info.schedule is None:
            raise InvalidCron(info.trouble or f"cron {name!r} can't be read")
        return [to_datetime(tick_us) for tick_us in _next_ticks(info, info.schedule, n, self._port.now_us())]

    def runs(
        self,
        name: str | None = None,
        /,
        *,
        limit: int = 100,
        before: Instant | None = None,
        state: RunState | None = None,
    ) -> Coroutine[Any, Any, Sequence[CronRun]]:
        """Return what became of the newest ticks, of one cron or of all: runs, and stretches of skipped ticks.

        The newest first, at most `limit` (1 to 1000): of one cron by their ticks, of all by when they were written.
        With `before` only what is older than that; with `state` only the jobs in that state, or what was "skipped".
        To walk all of them, page by page, there is `runs_page`.  Raises InvalidArgs, InvalidTime.
        """
        _check_runs(name, state, limit)
        before_us = None if before is None else instant_us(before, self._port.now_us())
        return self._port.cron_runs(name, limit, before_us, state)

    def runs_page(
        self,
        name: str | None = None,
        /,
        *,
        state: RunState | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Coroutine[Any, Any, Page[CronRun]]:
        """Return one page of the same, from after `cursor`: over all pages each comes once, and none is left out.

        What is written while they are walked is for the next walk.  With `state` a page looks at 20,000 rows of each
        kind at most: it may be short, or empty, though `next_cursor` is set.  Raises InvalidArgs.
        """
        _check_runs(name, state, limit)
        return self._port.cron_runs_page(name, state, cursor, limit)

    def get(self, name: str, /) -> Coroutine[Any, Any, CronInfo | None]:
        """Return how a cron stands, or None when there is none of that name."""
        _check_text(name)
        return self._port.get_cron(name)

    def page(
        self, prefix: str = "", /, *, cursor: str | None = None, limit: int = 100
    ) -> Coroutine[Any, Any, Page[CronInfo]]:
        """Return at most `limit` (1 to 1000) crons whose names begin with `prefix`, by name, from after `cursor`.

        Raises InvalidArgs.
        """
        _check_text(prefix)
        if cursor is not None:
            _check_text(cursor)
        _check_number("limit", limit, PAGE_MAX)
        return self._port.list_crons(prefix, cursor, limit)

    # last: from here on `list` is this method inside the class body
    def list(self, *, prefix: str = "") -> AsyncIterator[CronInfo]:
        """Return the crons whose names begin with `prefix`, by name: `async for cron in crons.list()`.

        They are read in pages, each of which is one consistent read.
        """
        _check_text(prefix)
        return self._walk(prefix)

    async def _walk(self, prefix: str) -> AsyncIterator[CronInfo]:
        cursor = None
        while True:
            page = await self._port.list_crons(prefix, cursor, PAGE)
            for info in page.items:
                yield info
            cursor = page.next_cursor
            if cursor is None:
                return


def _next_ticks(info: CronInfo, schedule: Schedule, count: int, now_us: int) -> list[int]:
    """Return the ticks from the next one on; for a cron without one, those it would have from now on."""
    found: list[int] = []
    ticks = schedule.ticks(from_datetime(info.anchored_at))
    if info.next_at is not None:
        tick_us: int | None = from_datetime(info.next_at)
    else:
        tick_us = ticks.next_us(max(now_us, from_datetime(info.accounted_to)))
    while tick_us is not None and len(found) < count:
        found.append(tick_us)
        tick_us = ticks.next_us(tick_us)
    return found


def _check_text(name: object) -> None:
    """Refuse what can't be a name; whether there is such a cron is another question."""
    if not isinstance(name, str) or storable(name) != name:
        msg = f"a cron's name is a str, not {type(name).__name__}"
        raise InvalidArgs(msg)


def _check_runs(name: object, state: object, limit: object) -> None:
    if name is not None:
        _check_text(name)
    if state is not None and not (isinstance(state, str) and state in _RUN_STATES):
        msg = f"state must be one of {sorted(_RUN_STATES)}, not {state!r:.40}"
        raise InvalidArgs(msg)
    _check_number("limit", limit, PAGE_MAX)


def _check_number(what: str, number: object, most: int) -> None:
    if type(number) is not int or not 1 <= number <= most:
        msg = f"{what} must be from 1 to {most}, not {number!r:.40}"
        raise InvalidArgs(msg)
