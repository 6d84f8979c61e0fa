"""The attempts of actions that are under way: tasks, each owned until it really ended, with a limit on its time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import TimedOut
from actor_scheduler.limits import SECOND_US, TIMEOUT_GRACE_US
from actor_scheduler.model import Again, DueJob, Failed, Outcome, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from actor_scheduler.clock import Clock, Timer
    from actor_scheduler.store.base import Host

log = logging.getLogger("actor_scheduler")

_INTERRUPTED: Final = Failed(
    "interrupted", "the app was shut down while this action was running, and its grace ran out"
)


class Attempt:
    """One running action."""

    def __init__(self, job: DueJob, queue: str) -> None:
        self.job: Final = job
        self.queue: Final = queue
        self.task: asyncio.Task[None] | None = None
        self.timer: Timer | None = None  # when its time is up, or the grace after that
        self.sleeping = 0  # calls of ctx.sleep under way: the attempt waits for the clock
        self.verdict: Failed | Stopped | None = None  # why it was canceled, if we did it
        self.told = False  # its outcome was handed over: it did not end within its grace
        self.begun = False  # its task took its first step; one that is canceled before would never see it
        self.unwanted = False  # its task was canceled, or is to end at its first step


class Attempts:
    """Starts claimed actions and hands over their outcomes.

    Invariant: an attempt is in `_running` or `_stuck`, and its slot is taken, from its claim's acknowledgement until
    its coroutine really ended, whatever was recorded meanwhile.  In `_stuck` are those whose outcome was recorded
    before; a job's next attempt enters its body only when the one before has left it.
    """

    def __init__(
        self,
        host: Host,
        clock: Clock,
        *,
        ended: Callable[[DueJob, Outcome], None],
        freed: Callable[[str], None],
        stirred: Callable[[], None],
    ) -> None:
        self._host = host
        self._clock = clock
        self._ended = ended
        self._freed = freed
        self._stirred = stirred
        self._running: dict[int, Attempt] = {}  # by job
        self._stuck: dict[int, Attempt] = {}  # the same: of one job at most one, as the next waits for it
        self._abandoned = False
        self._grace_is_over = False

    def __len__(self) -> int:
        """Return how many attempts are running."""
        return len(self._running) + len(self._stuck)

    def present(self) -> frozenset[Attempt]:
        """Return the attempts that are running."""
        return frozenset(self._all())

    @property
    def waiting_for_clock(self) -> bool:
        """Whether every running attempt is in ctx.sleep: only time can move them."""
        return all(self._in_body(seq).sleeping for seq in self._running)

    def describe(self) -> str:
        """Return the paths of the running attempts, for a message."""
        return ", ".join(sorted(attempt.job.path for attempt in self._all()))

    # ------------------------------------------------------------ one attempt

    def start(self, job: DueJob, queue: str) -> None:
        """Start a claimed action. Its claim is durable, and its slot is taken."""
        reach("action.before_start")
        attempt = self._running[job.seq] = Attempt(job, queue)
        attempt.task = asyncio.create_task(self._run(attempt), name=f"{job.path} {job.id}")
        limit_us = self._host.timeout_us(job)
        if limit_us is not None:
            self._after(attempt, limit_us, self._time_is_up)

    async def _run(self, attempt: Attempt) -> None:
        job = attempt.job
        attempt.begun = True
        reach("action.started")
        outcome: Outcome
        try:
            outcome = await self._body(attempt)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            # Without anybody asking for it, the function raised it itself: awaiting a task it had canceled, say.
            asked = task is not None and task.cancelling()
            outcome = self._canceled(attempt) if asked else self._failed(job, error)
        except BaseException as error:  # SystemExit of a function must not stop the app
            outcome = self._failed(job, error)
        finally:
            owner = self._stuck if attempt.told else self._running
            owner.pop(job.seq, None)
            if attempt.timer is not None:
                attempt.timer.cancel()
            self._freed(attempt.queue)
        if attempt.verdict is not None and isinstance(outcome, Failed | Again):
            # It failed at being canceled. Where what it raised is final, as GiveUp is, there is nothing left to judge.
            outcome = attempt.verdict if isinstance(outcome, Failed) else self._canceled(attempt)
        reach("action.body_done")
        if not self._abandoned and not attempt.told:
            self._ended(job, outcome)
        self._stirred()

    async def _body(self, attempt: Attempt) -> Outcome:
        """Enter the body, once an attempt before it has left it: one that was retried though it ignores its end."""
        if attempt.unwanted:
            return self._canceled(attempt)
        earlier = self._stuck.get(attempt.job.seq)
        if earlier is not None and earlier.task is not None:
            await asyncio.wait([earlier.task])
        self._host.starting(attempt.job)
        return await self._host.action(attempt.job)

    def _failed(self, job: DueJob, error: BaseException) -> Outcome:
        return self._host.judge(job, self._host.failure(error), error)

    def _canceled(self, attempt: Attempt) -> Outcome:
        """Return what a canceled attempt comes to: who asked for it decides."""
        if isinstance(attempt.verdict, Stopped):
            return attempt.verdict
        verdict = attempt.verdict or _INTERRUPTED
        return self._host.judge(attempt.job, verdict, TimedOut(verdict.error) if verdict.cause == "timeout" else None)

    # ------------------------------------------------------------ its time

    def _after(self, attempt: Attempt, span_us: int, then: Callable[[Attempt], None]) -> None:
        """Call `then` once `span_us` have passed, by the clock that no step moves, unless the attempt ended before."""
        clock = self._clock
        until_us = clock.monotonic_us() + span_us

        def look() -> None:
            left_us = until_us - clock.monotonic_us()
            if left_us <= 0:
                then(attempt)
            else:
                attempt.timer = clock.call_at(clock.now_us() + left_us, look)

        attempt.timer = clock.call_at(clock.now_us() + span_us, look)

    def _time_is_up(self, attempt: Attempt) -> None:
        limit_us = self._host.timeout_us(attempt.job)
        spent = f"{limit_us / SECOND_US:g} s" if limit_us is not None else "its time"
        self._cancel(attempt, Failed("timeout", f"the attempt was still running after {spent}"))

    def stop(self, seq: int) -> None:
        """Cancel the attempt of this job, if it is running: somebody asked for it."""
        attempt = self._running.get(seq)
        if attempt is not None and attempt.verdict is None:
            self._cancel(attempt, Stopped())

    def _cancel(self, attempt: Attempt, verdict: Failed | Stopped) -> None:
        if attempt.timer is not None:
            attempt.timer.cancel()
        attempt.verdict = verdict
        self._interrupt(attempt)
        self._after(attempt, TIMEOUT_GRACE_US, self._grace_ran_out)

    def _interrupt(self, attempt: Attempt) -> None:
        attempt.unwanted = True
        if attempt.begun and attempt.task is not None:
            attempt.task.cancel()

    def _grace_ran_out(self, attempt: Attempt) -> None:
        """Record the outcome of an attempt that ignores its cancellation. Its slot stays taken, and it is not retried.

        A second attempt would run beside it.
        """
        job, verdict = attempt.job, attempt.verdict
        assert verdict is not None
        log.error("%s %s ignores its cancellation; it keeps its slot until it ends", job.path, job.id)
        attempt.told = True
        self._stuck[job.seq] = self._running.pop(job.seq)
        if not self._abandoned:
            self._ended(job, verdict)
        self._stirred()

    @contextlib.contextmanager
    def sleeping(self, seq: int | None) -> Iterator[None]:
        """Mark an attempt as waiting for the clock."""
        if seq is None or not (seq in self._running or seq in self._stuck):
            yield
            return
        attempt = self._in_body(seq)
        attempt.sleeping += 1
        self._stirred()
        try:
            yield
        finally:
            attempt.sleeping -= 1

    def _in_body(self, seq: int) -> Attempt:
        """Return the attempt of this job that has entered its body: one that is retried waits for one that is stuck."""
        return self._stuck[seq] if seq in self._stuck else self._running[seq]

    # ------------------------------------------------------------ shutdown

    async def finish(self, grace_seconds: float) -> None:
        """Let the attempts end by themselves for `grace_seconds`, then cancel them.

        One that does not end within a second of its cancellation is left behind, as interrupted.
        """
        tasks = self._tasks()
        if tasks and grace_seconds > 0 and not self._grace_is_over:
            await asyncio.wait(tasks, timeout=grace_seconds)
        tasks = self._tasks()
        for attempt in self._all():
            self._interrupt(attempt)
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        for attempt in self._all():
            if attempt.timer is not None:
                attempt.timer.cancel()
            log.error("%s %s ignores its cancellation; it is left behind", attempt.job.path, attempt.job.id)
            if not attempt.told:
                self._ended(attempt.job, attempt.verdict or _INTERRUPTED)
            if attempt.task is not None:  # the end of the event loop would wait for it, for ever
                asyncio._unregister_task(attempt.task)  # noqa: SLF001 - documented, for those who make tasks
        self._abandoned = True

    def grace_is_over(self) -> None:
        """Let `finish` cancel at once: in virtual time nobody would move the clock for it."""
        self._grace_is_over = True

    async def abandon(self) -> None:
        """Stop every attempt and record nothing, as if the process had died."""
        self._abandoned = True
        tasks = self._tasks()
        for attempt in self._all():
            if attempt.timer is not None:
                attempt.timer.cancel()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [attempt.task for attempt in self._all() if attempt.task is not None]

    def _all(self) -> list[Attempt]:
        return [*self._running.values(), *self._stuck.values()]
