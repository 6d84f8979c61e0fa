"""The two places a handle can stand: outside, before the actor, or inside a mutation's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from actor_scheduler.store.base import (
    CancelJob,
    CancelJobs,
    DropJob,
    DropJobs,
    InsertJobs,
    PromoteJob,
    RetryJob,
    RetryJobs,
)
from actor_scheduler.store.cron_units import ActivateCrons, StageCrons

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from actor_scheduler.actor import Actor
    from actor_scheduler.clock import Clock
    from actor_scheduler.crons.records import CronDiff, CronInfo, CronRun, ManifestInfo, RunState, Staged
    from actor_scheduler.crons.spec import CronSpec
    from actor_scheduler.model import (
        Counted,
        FailedAttempt,
        Job,
        JobFilter,
        NewJob,
        Overview,
        Page,
        Upcoming,
    )
    from actor_scheduler.store.base import Snapshot, Store, Swept, Tx, Unit
    from actor_scheduler.store.cron_units import CronUnit


class Running(NamedTuple):
    """What runs between an app's start and its end."""

    actor: Actor
    store: Store
    clock: Clock


class ActorPort:
    """Outside: every call is a command of its own, durable before it returns.

    `running` is asked at each call, so that a handle may be taken before the app starts, and outlive a restart.
    """

    def __init__(
        self,
        running: Callable[[], Running],
        *,
        parent_id: str | None = None,
        chain: int = 0,
        inside: bool = False,
    ) -> None:
        self.parent_id = parent_id
        self.chain = chain
        self.bounded = inside  # an action's one call has limits, the app has none
        self._running = running
        self._inside = inside

    def now_us(self) -> int:
        """Return the app's clock."""
        return self._running().clock.now_us()

    async def insert_one(self, job: NewJob) -> str:
        """Store one job and return its id."""
        ids: list[str] = await self._running().actor.submit(InsertJobs((job,)), inside=self._inside)
        return ids[0]

    async def insert_many(self, jobs: Sequence[NewJob]) -> list[str]:
        """Store jobs, all or none, and return their ids."""
        ids: list[str] = await self._running().actor.submit(InsertJobs(jobs), inside=self._inside)
        return ids

    async def cancel(self, which: CancelJob) -> bool:
        """Cancel a pending job and return whether it will never start."""
        return bool(await self._submit(which))

    async def retry(self, job_id: str) -> bool:
        """Make a failed job pending again and return whether it was failed."""
        return bool(await self._submit(RetryJob(job_id, self.now_us())))

    async def promote(self, job_id: str) -> bool:
        """Let a pending job be due now and return whether it was pending."""
        return bool(await self._submit(PromoteJob(job_id)))

    async def drop(self, job_id: str) -> bool:
        """Forget a job that has ended and return whether it had."""
        return bool(await self._submit(DropJob(job_id)))

    async def cancel_many(self, which: JobFilter, cursor: str | None, limit: int) -> Swept:
        """Cancel the pending among one page of jobs."""
        swept: Swept = await self._submit(CancelJobs(which, cursor, limit))
        return swept

    async def retry_many(self, which: JobFilter, cursor: str | None, limit: int) -> Swept:
        """Make the failed among one page of jobs pending again."""
        swept: Swept = await self._submit(RetryJobs(which, cursor, limit, self.now_us()))
        return swept

    async def drop_many(self, which: JobFilter, cursor: str | None, limit: int) -> Swept:
        """Forget those of one page of jobs that have ended."""
        swept: Swept = await self._submit(DropJobs(which, cursor, limit))
        return swept

    async def _submit(self, unit: Unit) -> Any:
        return await self._running().actor.submit(unit, inside=self._inside)

    async def failed_attempts(self, job_id: str) -> list[FailedAttempt]:
        """Return the attempts of a job that were followed by another."""
        attempts: list[FailedAttempt] = await self._read(lambda snapshot: snapshot.failed_attempts(job_id))
        return attempts

    async def get(self, job_id: str) -> Job | None:
        """Return the job, or None."""
        job: Job | None = await self._read(lambda snapshot: snapshot.get_job(job_id))
        return job

    async def page(self, which: JobFilter, cursor: str | None, limit: int) -> Page[Job]:
        """Return one page of jobs."""
        page: Page[Job] = await self._read(lambda snapshot: snapshot.list_jobs(which, cursor, limit))
        return page

    async def count(self, which: JobFilter) -> int:
        """Return how many jobs match."""
        count: int = await self._read(lambda snapshot: snapshot.count_jobs(which))
        return count

    async def count_up_to(self, which: JobFilter, rows: int) -> Counted:
        """Return how many of so many jobs match."""
        counted: Counted = await self._read(lambda snapshot: snapshot.count_jobs_up_to(which, rows))
        return counted

    async def overview(self) -> Overview:
        """Return how many jobs and crons there are."""
        found: Overview = await self._read(lambda snapshot: snapshot.overview())
        return found

    async def upcoming(self, limit: int) -> list[Upcoming]:
        """Return what starts next."""
        found: list[Upcoming] = await self._read(lambda snapshot: snapshot.upcoming(limit))
        return found

    # ------------------------------------------------------------ crons

    async def change_cron(self, unit: CronUnit) -> Any:
        """Do what is wanted of a cron, and return the answer."""
        return await self._submit(unit)

    async def stage_crons(self, specs: Sequence[CronSpec]) -> Staged:
        """Keep definitions as a manifest that waits, and return what became of it."""
        staged: Staged = await self._submit(StageCrons(specs, activate=False))
        return staged

    async def activate_crons(self, version: int) -> CronDiff:
        """Let a manifest hold, and return what that changed."""
        diff: CronDiff = await self._submit(ActivateCrons(version))
        return diff

    async def get_cron(self, name: str) -> CronInfo | None:
        """Return how a cron stands, or None."""
        info: CronInfo | None = await self._read(lambda snapshot: snapshot.get_cron(name))
        return info

    async def list_crons(self, prefix: str, after: str | None, limit: int) -> Page[CronInfo]:
        """Return one page of crons, by name."""
        page: Page[CronInfo] = await self._read(lambda snapshot: snapshot.list_crons(prefix, after, limit))
        return page

    async def cron_runs(
        self, name: str | None, limit: int, before_us: int | None, state: RunState | None
    ) -> list[CronRun]:
        """Return what became of the newest ticks."""
        runs: list[CronRun] = await self._read(lambda snapshot: snapshot.cron_runs(name, limit, before_us, state))
        return runs

    async def cron_runs_page(
        self, name: str | None, state: RunState | None, cursor: str | None, limit: int
    ) -> Page[CronRun]:
        """Return one page of what became of ticks."""
        page: Page[CronRun] = await self._read(lambda snapshot: snapshot.cron_runs_page(name, state, cursor, limit))
        return page

    async def manifests(self, limit: int) -> list[ManifestInfo]:
        """Return the newest manifests."""
        manifests: list[ManifestInfo] = await self._read(lambda snapshot: snapshot.manifests(limit))
        return manifests

    async def manifest_specs(self, version: int) -> list[CronSpec]:
        """Return the definitions of a manifest."""
        specs: list[CronSpec] = await self._read(lambda snapshot: snapshot.manifest_specs(version))
        return specs

    async def _read(self, ask: Any) -> Any:
        async def body(snapshot: Snapshot) -> Any:
            return await ask(snapshot)

        running = self._running()
        running.actor.check_usable(inside=self._inside)
        return await running.store.query(body, None)


class TxPort:
    """Inside a mutation: every call is part of its transaction, and of what its rollback undoes."""

    bounded = True

    def __init__(self, tx: Tx, parent_id: str | None, chain: int = 0) -> None:
        self.parent_id = parent_id
        self.chain = chain
        self._tx = tx

    def now_us(self) -> int:
        """Return the mutation's frozen now."""
        return self._tx.now_us

    def insert_one(self, job: NewJob) -> Coroutine[Any, Any, str]:
        """Store one job and return its id."""
        return self._tx.insert_job(job)

    def insert_many(self, jobs: Sequence[NewJob]) -> Coroutine[Any, Any, list[str]]:
        """Store jobs and return their ids."""
        return self._tx.insert_jobs(jobs)

    def cancel(self, which: CancelJob) -> Coroutine[Any, Any, bool]:
        """Cancel a pending job and return whether it will never start."""
        return self._tx.cancel_job(which)

    def retry(self, job_id: str) -> Coroutine[Any, Any, bool]:
        """Make a failed job pending again and return whether it was failed."""
        return self._tx.retry_job(job_id)

    def promote(self, job_id: str) -> Coroutine[Any, Any, bool]:
        """Let a pending job be due now and return whether it was pending."""
        return self._tx.promote_job(job_id)

    def drop(self, job_id: str) -> Coroutine[Any, Any, bool]:
        """Forget a job that has ended and return whether it had."""
        return self._tx.drop_job(job_id)

    def cancel_many(self, which: JobFilter, cursor: str | None, limit: int) -> Coroutine[Any, Any, Swept]:
        """Cancel the pending among one page of jobs."""
        return self._tx.cancel_jobs(which, cursor, limit)

    def retry_many(self, which: JobFilter, cursor: str | None, limit: int) -> Coroutine[Any, Any, Swept]:
        """Make the failed among one page of jobs pending again."""
        return self._tx.retry_jobs(which, cursor, limit)

    def drop_many(self, which: JobFilter, cursor: str | None, limit: int) -> Coroutine[Any, Any, Swept]:
        """Forget those of one page of jobs that have ended."""
        return self._tx.drop_jobs(which, cursor, limit)

    def failed_attempts(self, job_id: str) -> Coroutine[Any, Any, list[FailedAttempt]]:
        """Return the attempts of a job that were followed by another."""
        return self._tx.failed_attempts(job_id)

    def get(self, job_id: str) -> Coroutine[Any, Any, Job | None]:
        """Return the job, or None."""
        return self._tx.get_job(job_id)

    def page(self, which: JobFilter, cursor: str | None, limit: int) -> Coroutine[Any, Any, Page[Job]]:
        """Return one page of jobs."""
        return self._tx.list_jobs(which, cursor, limit)

    def count(self, which: JobFilter) -> Coroutine[Any, Any, int]:
        """Return how many jobs match."""
        return self._tx.count_jobs(which)

    def count_up_to(self, which: JobFilter, rows: int) -> Coroutine[Any, Any, Counted]:
        """Return how many of so many jobs match."""
        return self._tx.count_jobs_up_to(which, rows)

    # ------------------------------------------------------------ crons

    def change_cron(self, unit: CronUnit) -> Coroutine[Any, Any, Any]:
        """Do what is wanted of a cron, and return the answer."""
        return self._tx.change_cron(unit)

    def get_cron(self, name: str) -> Coroutine[Any, Any, CronInfo | None]:
        """Return how a cron stands, or None."""
        return self._tx.get_cron(name)

    def list_crons(self, prefix: str, after: str | None, limit: int) -> Coroutine[Any, Any, Page[CronInfo]]:
        """Return one page of crons, by name."""
        return self._tx.list_crons(prefix, after, limit)

    def cron_runs(
        self, name: str | None, limit: int, before_us: int | None, state: RunState | None
    ) -> Coroutine[Any, Any, list[CronRun]]:
        """Return what became of the newest ticks."""
        return self._tx.cron_runs(name, limit, before_us, state)

    def cron_runs_page(
        self, name: str | None, state: RunState | None, cursor: str | None, limit: int
    ) -> Coroutine[Any, Any, Page[CronRun]]:
        """Return one page of what became of ticks."""
        return self._tx.cron_runs_page(name, state, cursor, limit)
