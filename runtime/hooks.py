"""Hooks: the app hears of every attempt of its jobs, and nothing it does there can hurt one.

They run on the event loop, one after the other, behind the jobs: a slow hook delays only the hooks after it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from actor_scheduler.errors import said
from actor_scheduler.model import Again, Cause, DueJob, Failed, Kind, Outcome, State, Stopped, Succeeded
from actor_scheduler.times import to_datetime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

log = logging.getLogger("actor_scheduler")

Moment: TypeAlias = Literal["dispatch", "failed", "finished"]
EVENTS_MAX: Final = 10_000  # waiting for slow hooks: ~1 KiB each; those beyond are dropped, and counted in the log


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One attempt of a job, as a hook sees it.

    `state` is None before the attempt, `pending` when another follows (at `retry_at`), else how the job ended.
    `cron` is the name of the cron whose run it is.
    """

    job_id: str
    path: str
    kind: Kind
    attempt: int
    scheduled_at: datetime
    dispatched_at: datetime
    ended_at: datetime | None = None
    state: State | None = None
    cause: Cause | None = None
    error: str | None = None
    retry_at: datetime | None = None
    cron: str | None = None


Hook: TypeAlias = "Callable[[JobEvent], object]"


class Hooks:
    """The functions that an app has given, and the events that wait for them."""

    def __init__(self) -> None:
        self._hooks: dict[Moment, list[Hook]] = {"dispatch": [], "failed": [], "finished": []}
        self._waiting: deque[tuple[Moment, JobEvent]] = deque()
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, moment: Moment, hook: Hook) -> None:
        """Call `hook` at this moment of every attempt."""
        self._hooks[moment].append(hook)

    @property
    def any(self) -> bool:
        """Whether anybody listens."""
        return any(self._hooks.values())

    async def heard(self, patience_seconds: float) -> None:
        """Return once every event was heard, or after this many seconds."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience_seconds)

    # ------------------------------------------------------------ what happens

    def starting(self, job: DueJob) -> None:
        """Tell of an attempt that is about to start. Never raises."""
        if self._hooks["dispatch"]:
            self._tell_all(("dispatch",), job, None, 0)

    def attempted(self, job: DueJob, outcome: Outcome, ended_at_us: int) -> None:
        """Tell of an attempt that ended, durably. Never raises."""
        moments: list[Moment] = []
        failed = isinstance(outcome, Failed | Again) or (isinstance(outcome, Stopped) and outcome.failure is not None)
        if failed and self._hooks["failed"]:
            moments.append("failed")
        if not isinstance(outcome, Again) and self._hooks["finished"]:
            moments.append("finished")
        if moments:
            self._tell_all(moments, job, outcome, ended_at_us)

    def _tell_all(self, moments: Sequence[Moment], job: DueJob, outcome: Outcome | None, ended_at_us: int) -> None:
        try:
            event = _event(job, outcome, ended_at_us)
        except (OverflowError, ValueError):  # a moment in a damaged row
            log.exception("%s %s can't be told to the hooks", job.path, job.id)
            return
        for moment in moments:
            self._tell(moment, event)

    def _tell(self, moment: Moment, event: JobEvent) -> None:
        if len(self._waiting) >= EVENTS_MAX:
            if self._dropped == 0:
                log.error("hooks are too slow: %d events wait, and those after them are dropped", EVENTS_MAX)
            self._dropped += 1
            return
        self._waiting.append((moment, event))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="hooks")

    # ------------------------------------------------------------ who hears it

    async def _run(self) -> None:
        try:
            while self._waiting:
                moment, event = self._waiting.popleft()
                for hook in self._hooks[moment]:
                    await _call(hook, event)
        finally:
            self._task = None
            if self._dropped and not self._waiting:
                log.error("%d events were dropped: hooks were too slow", self._dropped)
                self._dropped = 0

    async def close(self, patience_seconds: float) -> None:
        """Let the hooks hear what has happened, for as long as this, then stop them."""
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=patience_seconds)
            task.cancel()
            await asyncio.wait([task], timeout=1.0)
        if self._waiting:
            log.error("%d events were not heard: the app stopped", len(self._waiting))
            self._waiting.clear()


async def _call(hook: Hook, event: JobEvent) -> None:
    """Call one hook. Whatever it raises is logged, and ends there."""
    try:
        answer: Any = hook(event)
        if inspect.isawaitable(answer):
            await answer
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        log.error("a hook failed on %s %s: %s", event.path, event.job_id, said(error))  # noqa: TRY400 - it says enough
    except BaseException:
        log.exception("a hook failed on %s %s", event.path, event.job_id)


def _event(job: DueJob, outcome: Outcome | None = None, ended_at_us: int = 0) -> JobEvent:
    state: State | None = None
    failure: Failed | None = None
    retry_at: datetime | None = None
    match outcome:
        case Succeeded():
            state = "success"
        case Failed():
            state, failure = "failed", outcome
        case Again(failed, delay_us):
            state, failure, retry_at = "pending", failed, to_datetime(ended_at_us + delay_us)
        case None:
            pass
        case Stopped(failure):
            state = "canceled"
    return JobEvent(
        job_id=job.id,
        path=job.path,
        kind=job.kind,
        attempt=job.attempt,
        scheduled_at=to_datetime(job.scheduled_at_us),
        dispatched_at=to_datetime(job.dispatched_at_us),
        ended_at=to_datetime(ended_at_us) if outcome is not None else None,
        state=state,
        cause=failure.cause if failure is not None else None,
        error=failure.error if failure is not None else None,
        retry_at=retry_at,
        cron=job.cron,
    )
