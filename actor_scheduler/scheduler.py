"""The public handle: schedule, cancel, look up. The same class in a mutation, in an action and on the app.

What differs is the port behind it: in a mutation everything is part of the mutation's transaction, elsewhere it is
durable before the call returns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, get_args, overload

from typing_extensions import Unpack

from actor_scheduler.call import Call
from actor_scheduler.errors import InvalidArgs, LimitExceeded, PartiallyScheduled, storable
from actor_scheduler.job_list import JobList, SchedulerPort
from actor_scheduler.limits import (
    CALL_ARGS_BYTES_MAX,
    CALL_JOBS_MAX,
    CHAIN_MAX,
    CHAIN_US,
    RUN_MANY_CHUNK,
)
from actor_scheduler.model import Args, Cause, FailedAttempt, Job, JobFilter, JobOptions, Kind, NewJob, State
from actor_scheduler.options import check_id, check_key, check_options, check_text
from actor_scheduler.store.base import CancelJob
from actor_scheduler.times import NOW, After, At, Delay, Due, Instant, delay_us, instant_us

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from actor_scheduler.queues import Routing

P = ParamSpec("P")

_STATES = frozenset(get_args(State))
_CAUSES = frozenset(get_args(Cause))


class Target(Protocol):
    """Something with a path: a function of the runtime."""

    @property
    def path(self) -> str: ...


class Bindable(Protocol[P]):
    """A mutation or action, with the parameters its calls take."""

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Call[Any]: ...


class Targets(Protocol):
    """Who knows which functions can be scheduled."""

    @property
    def routing(self) -> Routing:
        """Where jobs wait."""
        ...

    def check(self, path: str, args: Args, function: object) -> tuple[str, Kind, bytes]:
        """Return the canonical path, the kind and the encoded arguments; raise what makes them unschedulable.

        `function` is whose path it is, when the call was bound to one.
        """
        ...

    def paths(self, path: str) -> tuple[str, ...]:
        """Return every path under which jobs of this function may stand: its own and its aliases."""
        ...


class Scheduler:
    """Schedules mutations and actions by path.

    Everything is checked when it is scheduled: path, kind, arguments, time and options; a call that raises has stored
    nothing.  A job never starts before its time.  Among due jobs, starts go by fire time, then by order of acceptance.

    In a mutation, jobs commit or roll back with it.  Elsewhere a job is durable when the call returns.
    """

    def __init__(self, port: SchedulerPort, targets: Targets) -> None:
        self._port = port
        self._targets = targets
        self._jobs_left = CALL_JOBS_MAX
        self._bytes_left = CALL_ARGS_BYTES_MAX

    # ------------------------------------------------------------ typed: scheduler.after(30).call(fn, …)

    def after(
        self,
        delay: Delay = 0,
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        **options: Unpack[JobOptions],
    ) -> Moment:
        """Return the moment this long from now; `.call(fn, …)` says what, and is checked argument by argument.

        `delay` is a timedelta or seconds; the named parts are added to it.  Raises InvalidTime.
        """
        span_us = delay_us(delay)
        for name, value, unit in (
            ("weeks", weeks, 604_800), ("days", days, 86_400), ("hours", hours, 3_600), ("minutes", minutes, 60),
            ("seconds", seconds, 1),
        ):  # fmt: skip
            if value:
                span_us += delay_us(delay_us(value, what=name) * unit / 1_000_000, what=name)
        return Moment(self, After(timedelta(microseconds=span_us)), options)

    def at(self, when: Instant, /, **options: Unpack[JobOptions]) -> Moment:
        """Return the moment of an aware datetime or of epoch seconds. Raises InvalidTime."""
        instant_us(when, self._port.now_us())
        return Moment(self, At(when), options)

    def now(self, **options: Unpack[JobOptions]) -> Moment:
        """Return the moment right after acceptance: in a mutation, right after its commit."""
        return Moment(self, NOW, options)

    # ------------------------------------------------------------ by path, or by a bound call

    @overload
    def run_after(
        self,
        delay: Delay,
        path: str,
        args: Args | None = None,
        /,
        **options: Unpack[JobOptions],
    ) -> Coroutine[Any, Any, str]: ...
    @overload
    def run_after(
        self,
        delay: Delay,
        call: Call[Any],
        /,
        **options: Unpack[JobOptions],
    ) -> Coroutine[Any, Any, str]: ...
    def run_after(
        self,
        delay: Delay,
        what: str | Call[Any],
        args: Args | None = None,
        /,
        **options: Unpack[JobOptions],
    ) -> Coroutine[Any, Any, str]:
        """Schedule a function `delay` (a timedelta, or seconds) from now and return the job's id.

        Raises InvalidTime, InvalidArgs, LimitExceeded, UnknownFunction, WrongKind or KeyConflict: nothing is stored.
        """
        return self._insert(_call(what, args), After(delay), options)

    @overload
    def run_at(
        self,
        when: Instant,
        path: str,
        args: Args | None = None,
        /,
        **options: Unpack[JobOptions],
    ) -> Coroutine[Any, Any, str]: ...
    @overload
    def run_at(
        self,
        when: Instant,
        call: Call[Any],
        /,
        **options: Unpack[JobOptions],
    ) -> Coroutine[Any, Any, str]: ...
    def run_at(
        self,
        when: Instant,
        what: str | Call[Any],
        args: Args | None = None,
        /,
        **options: Unpack[JobOptions],
    ) -> Coroutine[Any, Any, str]:
        """Schedule a function at an aware datetime or epoch seconds and return the job's id; a past instant runs now.

        Raises as `run_after` does.
        """
        return self._insert(_call(what, args), At(when), options)

    @overload
    def run_now(
        self,
        path: str,
        args: Args | None = None,
        /,
        **options: Unpack[JobOptions],
    ) -> Coroutine[Any, Any, str]: ...
    @overload
    def run_now(self, call: Call[Any], /, **options: Unpack[JobOptions]) -> Coroutine[Any, Any, str]: ...
    def run_now(
        self,
        what: str | Call[Any],
        args: Args | None = None,
        /,
        **options: Unpack[JobOptions],
    ) -> Coroutine[Any, Any, str]:
        """Schedule a function for right after acceptance (in a mutation: after its commit) and return the job's id.

        Raises as `run_after` does.
        """
        return self._insert(_call(what, args), NOW, options)

    def run_many(self, calls: Iterable[Call[Any]], /) -> Coroutine[Any, Any, Sequence[str]]:
        """Schedule many calls and return their ids in the same order. A call without a moment is due now.

        In a mutation or action: at most 1000, all or none.  On the app: any number, committed in chunks of 1000; when
        a chunk fails after others were committed, PartiallyScheduled says which ids are durable.
        """
        if not isinstance(calls, Iterable):
            msg = f"run_many takes many calls, not {type(calls).__name__}"
            raise InvalidArgs(msg)
        if self._port.bounded:
            return self._port.insert_many([self._new_job(call, None, {}) for call in calls])
        return self._run_chunks(calls)

    async def _run_chunks(self, calls: Iterable[Call[Any]]) -> Sequence[str]:
        ids: list[str] = []
        waiting = iter(calls)
        try:
            while chunk := [self._new_job(call, None, {}) for call in itertools.islice(waiting, RUN_MANY_CHUNK)]:
                ids.extend(await self._port.insert_many(chunk))
        except Exception as error:
            if ids:
                raise PartiallyScheduled(ids, error) from error
            raise
        return ids

    # ------------------------------------------------------------ steering and looking

    @overload
    def cancel(self, job_id: str, /, *, running: bool = False) -> Coroutine[Any, Any, bool]: ...
    @overload
    def cancel(self, /, *, key: str, running: bool = False) -> Coroutine[Any, Any, bool]: ...
    def cancel(
        self, job_id: str | None = None, /, *, key: str | None = None, running: bool = False
    ) -> Coroutine[Any, Any, bool]:
        """Cancel a pending job and return True if it will never start.

        False means that it had started or ended, or that there is no such job: a miss is data, not an error.  Once
        True was returned, the job never starts.

        A running action is let finish, but it is not retried any more, and what it schedules from now on is born
        canceled.  With `running=True` it is also asked to stop (its task is canceled), and True is returned: it ends
        as `canceled`, or as what it makes of that.
        """
        if (job_id is None) == (key is None):
            msg = "cancel takes a job id, or key=…"
            raise InvalidArgs(msg)
        if job_id is not None:
            check_id(job_id)
        if key is not None:
            check_key(key, "key")
        return self._port.cancel(CancelJob(job_id, key, running))

    def get(self, job_id: str, /) -> Coroutine[Any, Any, Job | None]:
        """Return the job as it stands, or None when there is no such job (it may have been pruned)."""
        check_id(job_id)
        return self._port.get(job_id)

    def retry(self, job_id: str, /) -> Coroutine[Any, Any, bool]:
        """Make a failed job pending again, due now, as its next attempt; return whether it was failed.

        One attempt more, also when its retry policy is exhausted.  Raises KeyConflict when another unfinished job has
        taken its key meanwhile.  Many at once: `list(state="failed", …).retry()`.
        """
        check_id(job_id)
        return self._port.retry(job_id)

    def promote(self, job_id: str, /) -> Coroutine[Any, Any, bool]:
        """Let a pending job be due now, also one that waits for its next attempt; return whether it was pending.

        It goes behind what is due already, and waits for its turn in its lane, for a slot, and for a pause to end, as
        any due job does.  `scheduled_at` stays what was asked; a job that is due already keeps its place.
        """
        check_id(job_id)
        return self._port.promote(job_id)

    def drop(self, job_id: str, /) -> Coroutine[Any, Any, bool]:
        """Forget a job that has ended, now and not after its time; return whether it had ended.

        Many at once: `list(state="failed", …).drop()`.
        """
        check_id(job_id)
        return self._port.drop(job_id)

    def failed_attempts(self, job_id: str, /) -> Coroutine[Any, Any, Sequence[FailedAttempt]]:
        """Return the attempts of a job that failed and were followed by another, the oldest first; the newest 100."""
        check_id(job_id)
        return self._port.failed_attempts(job_id)

    # ------------------------------------------------------------ from a call to a job

    def _insert(self, call: Call[Any], due: Due, options: JobOptions) -> Coroutine[Any, Any, str]:
        if call.due is not None:
            msg = f"{call!r} has its own moment: give it to run_many, or leave .after/.at away"
            raise InvalidArgs(msg)
        return self._port.insert_one(self._new_job(call, due, options))

    def _new_job(self, call: Call[Any], due: Due | None, options: JobOptions) -> NewJob:
        if not isinstance(call, Call):
            msg = f"run_many takes fn.bind(…) or Call(path, args), not {type(call).__name__}"
            raise InvalidArgs(msg)
        now_us = self._port.now_us()
        match due or call.due or NOW:
            case At(when):
                scheduled_at_us = instant_us(when, now_us)
            case After(delay):
                scheduled_at_us = now_us + delay_us(delay)
        path, kind, args = self._targets.check(call.path, call.args, call.function)
        if self._port.bounded:
            self._charge(len(args))
        fire_at_us = max(scheduled_at_us, now_us)
        port = self._port
        chain = port.chain + 1 if port.parent_id is not None and fire_at_us < now_us + CHAIN_US else 0
        if chain > CHAIN_MAX:  # each job schedules the next for now: a loop, and it shall not run hot
            fire_at_us = now_us + CHAIN_US
        if not options and not call.options:
            queue = self._targets.routing.queue(path, kind)
            return NewJob(
                path, kind, queue, args, scheduled_at_us, fire_at_us, now_us, parent_id=port.parent_id, chain=chain
            )
        chosen = check_options({**call.options, **options})
        queue = self._targets.routing.queue(path, kind, chosen.get("priority", 0))
        return NewJob(
            path, kind, queue, args, scheduled_at_us, fire_at_us, now_us, parent_id=port.parent_id, chain=chain,
            **chosen,
        )  # fmt: skip

    def _charge(self, size: int) -> None:
        self._jobs_left -= 1
        self._bytes_left -= size
        if self._jobs_left < 0:
            msg = f"one function call may schedule at most {CALL_JOBS_MAX} jobs: schedule one that schedules the rest"
            raise LimitExceeded(msg)
        if self._bytes_left < 0:
            msg = f"one function call may schedule at most {CALL_ARGS_BYTES_MAX} bytes of arguments in all"
            raise LimitExceeded(msg)

    # last: from here on `list` is this method inside the class body
    def list(
        self,
        *,
        fn: Target | str | None = None,
        state: State | None = None,
        key: str | None = None,
        cause: Cause | None = None,
        lane: str | None = None,
        cron: str | None = None,
        text: str | None = None,
    ) -> JobList:
        """Return the jobs that match, newest first: `async for job in …` walks them all, `await ….page()` takes one.

        The dead letters are `list(state="failed")`.  `text` (1 to 200 characters) stands anywhere in the id, path, key,
        idempotency key, lane, cron or error, ASCII letters in either case; or, as it is, in the stored arguments.
        """
        for what, given, known in (("state", state, _STATES), ("cause", cause, _CAUSES)):
            if given is not None and given not in known:
                msg = f"{what} must be one of {sorted(known)}, not {given!r}"
                raise InvalidArgs(msg)
        for what, name in (("key", key), ("lane", lane), ("cron", cron)):
            if name is not None:
                check_key(name, what)
        if text is not None:
            check_text(text)
        path = fn if fn is None or isinstance(fn, str) else getattr(fn, "path", None)
        if fn is not None and (not isinstance(path, str) or storable(path) != path):
            msg = f"fn is a registered function or its 'namespace:function' path, not {type(fn).__name__}"
            raise InvalidArgs(msg)
        paths = None if path is None else self._targets.paths(path)
        return JobList(self._port, JobFilter(paths, state, key, cause, lane, cron, text))


class Moment:
    """When, and with which options; `.call` says what."""

    __slots__ = ("_due", "_options", "_scheduler")

    def __init__(self, scheduler: Scheduler, due: Due, options: JobOptions) -> None:
        self._scheduler = scheduler
        self._due = due
        self._options = options

    def call(self, fn: Bindable[P], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, str]:
        """Schedule `fn` with these arguments and return the job's id. Raises as `Scheduler.run_after` does."""
        return self._scheduler._insert(  # noqa: SLF001 - a Moment is a part of its scheduler
            fn.bind(*args, **kwargs), self._due, self._options
        )


def _call(what: str | Call[Any], args: Args | None) -> Call[Any]:
    if isinstance(what, Call):
        return what
    if not isinstance(what, str):
        msg = f"give a 'namespace:function' path or fn.bind(…), not {type(what).__name__}"
        raise InvalidArgs(msg)
    return Call(what, args)
