"""The attempts of actions that are under way: a bounded number of tasks, each owned until it really ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actor_scheduler.crashpoints import reach
from actor_scheduler.failures import log_failure
from actor_scheduler.model import DueJob, Failed, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from actor_scheduler.store.base import Host

log = logging.getLogger("actor_scheduler")

_INTERRUPTED = Failed("interrupted", "the app was shut down while this action was running, and its grace ran out")


@dataclass(slots=True)
class Attempt:
    """One running action."""

    job: DueJob
    task: asyncio.Task[None] | None = None
    sleeping: int = 0  # calls of ctx.sleep under way: the attempt waits for the clock


class Attempts:
    """Starts claimed actions and hands over their outcomes.

    Invariant: an attempt is in `_running` from its claim's acknowledgement until its coroutine ended.
    """

    def __init__(
        self, host: Host, slots: int, ended: Callable[[DueJob, Outcome], None], stirred: Callable[[], None]
    ) -> None:
        self._host = host
        self._slots = slots
        self._ended = ended
        self._stirred = stirred
        self._running: dict[int, Attempt] = {}
        self._abandoned = False
        self._grace_is_over = False

    def __len__(self) -> int:
        """Return how many attempts are running."""
        return len(self._running)

    @property
    def free(self) -> int:
        """How many more may start."""
        return self._slots - len(self._running)

    @property
    def waiting_for_clock(self) -> bool:
        """Whether every running attempt is in ctx.sleep: only time can move them."""
        return all(attempt.sleeping for attempt in self._running.values())

    def describe(self) -> str:
        """Return the paths of the running attempts, for a message."""
        return ", ".join(sorted(attempt.job.path for attempt in self._running.values()))

    def start(self, job: DueJob) -> None:
        """Start a claimed action. Its claim is durable."""
        reach("action.before_start")
        attempt = self._running[job.seq] = Attempt(job)
        attempt.task = asyncio.create_task(self._run(attempt), name=f"{job.path} {job.id}")

    async def _run(self, attempt: Attempt) -> None:
        reach("action.started")
        outcome: Outcome
        try:
            outcome = await self._host.action(attempt.job)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            # Without anybody asking for it, the function raised it itself: awaiting a task it had canceled, say.
            outcome = _INTERRUPTED if task is not None and task.cancelling() else self._host.failure(error)
        except BaseException as error:  # SystemExit of a function must not stop the app
            outcome = self._host.failure(error)
        finally:
            self._running.pop(attempt.job.seq, None)
        reach("action.body_done")
        if not self._abandoned:
            if isinstance(outcome, Failed):
                log_failure(attempt.job, outcome)
            self._ended(attempt.job, outcome)
        self._stirred()

    @contextlib.contextmanager
    def sleeping(self, seq: int | None) -> Iterator[None]:
        """Mark an attempt as waiting for the clock."""
        attempt = self._running.get(seq) if seq is not None else None
        if attempt is None:
            yield
            return
        attempt.sleeping += 1
        self._stirred()
        try:
            yield
        finally:
            attempt.sleeping -= 1

    async def finish(self, grace_seconds: float) -> None:
        """Let the attempts end by themselves for `grace_seconds`, then cancel them.

        One that does not end within a second of its cancellation is left behind, as interrupted.
        """
        tasks = self._tasks()
        if tasks and grace_seconds > 0 and not self._grace_is_over:
            await asyncio.wait(tasks, timeout=grace_seconds)
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        for attempt in list(self._running.values()):
            log.error("%s %s ignores its cancellation; it is left behind", attempt.job.path, attempt.job.id)
            self._ended(attempt.job, _INTERRUPTED)
        self._abandoned = True

    def grace_is_over(self) -> None:
        """Let `finish` cancel at once: in virtual time nobody would move the clock for it."""
        self._grace_is_over = True

    async def abandon(self) -> None:
        """Stop every attempt and record nothing, as if the process had died."""
        self._abandoned = True
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [attempt.task for attempt in self._running.values() if attempt.task is not None]
