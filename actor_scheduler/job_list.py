"""Many jobs at once: look at them page by page, retry or drop them; and the port all of that goes through."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from actor_scheduler.errors import InvalidArgs
from actor_scheduler.ids import parse_id
from actor_scheduler.limits import PAGE_MAX
from actor_scheduler.model import JobFilter, Mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from actor_scheduler.model import Counted, FailedAttempt, Job, NewJob, Page
    from actor_scheduler.store.base import CancelJob, Swept


ROWS_MAX: Final = 1_000_000  # looked at for one count: ~2 s of a reader, with a text


class SchedulerPort(Protocol):
    """Where jobs go: into the running transaction, or to the actor."""

    parent_id: str | None  # the job that schedules, if one does
    chain: int  # of that job
    bounded: bool  # whether one call's limits hold

    def now_us(self) -> int: ...
    def insert_one(self, job: NewJob) -> Coroutine[Any, Any, str]: ...
    def insert_many(self, jobs: Sequence[NewJob]) -> Coroutine[Any, Any, list[str]]: ...
    def cancel(self, which: CancelJob) -> Coroutine[Any, Any, bool]: ...
    def retry(self, job_id: str) -> Coroutine[Any, Any, bool]: ...
    def promote(self, job_id: str) -> Coroutine[Any, Any, bool]: ...
    def drop(self, job_id: str) -> Coroutine[Any, Any, bool]: ...
    def cancel_many(self, which: JobFilter, cursor: str | None, limit: int) -> Coroutine[Any, Any, Swept]: ...
    def retry_many(self, which: JobFilter, cursor: str | None, limit: int) -> Coroutine[Any, Any, Swept]: ...
    def drop_many(self, which: JobFilter, cursor: str | None, limit: int) -> Coroutine[Any, Any, Swept]: ...
    def failed_attempts(self, job_id: str) -> Coroutine[Any, Any, list[FailedAttempt]]: ...
    def get(self, job_id: str) -> Coroutine[Any, Any, Job | None]: ...
    def page(self, which: JobFilter, cursor: str | None, limit: int) -> Coroutine[Any, Any, Page[Job]]: ...
    def count(self, which: JobFilter) -> Coroutine[Any, Any, int]: ...
    def count_up_to(self, which: JobFilter, rows: int) -> Coroutine[Any, Any, Counted]: ...


class JobList:
    """Jobs that match a filter, newest first, read page by page: each page is one consistent read."""

    def __init__(self, port: SchedulerPort, which: JobFilter) -> None:
        self._port = port
        self._which = which

    async def __aiter__(self) -> AsyncIterator[Job]:
        """Yield every job, walking all pages."""
        cursor = None
        while True:
            page = await self._port.page(self._which, cursor, 100)
            for job in page.items:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    def page(self, *, cursor: str | None = None, limit: int = 100) -> Coroutine[Any, Any, Page[Job]]:
        """Return one page of at most `limit` (1 to 1000) jobs, from after `cursor`. Raises InvalidArgs.

        With `text` a page looks at 20,000 jobs at most: it may be short, or empty, though `next_cursor` is set.
        """
        return self._port.page(self._which, cursor, limit)

    def count(self) -> Coroutine[Any, Any, int]:
        """Return how many jobs match, exactly: it may look at all of them. For people, `count_up_to` is enough."""
        return self._port.count(self._which)

    def count_up_to(self, rows: int = 100_000, /) -> Coroutine[Any, Any, Counted]:
        """Return how many match among the newest `rows` (1 to 1,000,000) jobs, and whether those were all.

        With a `state` of pending, in_progress or failed only jobs in that state are looked at; of pending ones, those
        of any age.  Raises InvalidArgs.
        """
        if type(rows) is not int or not 1 <= rows <= ROWS_MAX:
            msg = f"rows must be from 1 to {ROWS_MAX}, not {rows!r:.40}"
            raise InvalidArgs(msg)
        return self._port.count_up_to(self._which, rows)

    async def mark(self) -> Mark:
        """Return how far the jobs have come, of all functions and states: what `until` takes."""
        at_us = self._port.now_us()
        newest = (await self._port.page(JobFilter(), None, 1)).items
        found = parse_id(newest[0].id) if newest else None
        return Mark(found[0] if found is not None else 0, at_us)

    def until(self, mark: Mark, /) -> JobList:
        """Return the jobs among them that were accepted by then, and have not ended since.

        What is counted, and then changed, are the same jobs then, however many come in between.
        """
        return JobList(self._port, replace(self._which, until=mark))

    async def cancel(self) -> int:
        """Cancel the pending jobs among them, and return how many: none of these will ever start.

        What has started goes on.  On the app and in an action each page of 1000 is durable by itself; in a mutation all
        of it commits or rolls back with the mutation.
        """
        return await self._sweep(self._port.cancel_many)

    async def retry(self) -> int:
        """Make the failed jobs among them pending again, due now; return how many.

        One whose key another unfinished job has taken meanwhile stays failed.  On the app and in an action each page
        of 1000 is durable by itself; in a mutation all of it commits or rolls back with the mutation.
        """
        return await self._sweep(self._port.retry_many)

    async def drop(self) -> int:
        """Forget the jobs among them that have ended, now and not after their time; return how many."""
        return await self._sweep(self._port.drop_many)

    async def _sweep(self, step: Callable[[JobFilter, str | None, int], Awaitable[Swept]]) -> int:
        count, cursor = 0, None
        while True:
            changed, cursor = await step(self._which, cursor, PAGE_MAX)
            count += changed
            if cursor is None:
                return count
