"""The store's port. It is about turns, not about statements.

A turn is a list of units in order of acceptance.  The store runs them in one transaction, drives the mutations among
them itself, and answers after the commit.  That cut lets SQLite run a whole turn in one hop to its own thread
(`coro.send`), and lets a networked database await between statements, behind the same five methods.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from actor_scheduler.model import Again, DueJob, Entry, Failed, Job, JobFilter, NewJob, Outcome, Page
from actor_scheduler.store.cron_units import ActivateCrons, CronTargets, CronUnit, StageCrons

if TYPE_CHECKING:
    from contextvars import Context

    from actor_scheduler.crons.catchup import Drop
    from actor_scheduler.crons.records import RunState
    from actor_scheduler.errors import ActorSchedulerError
    from actor_scheduler.queues import Routing

SqlValue: TypeAlias = str | bytes | int | float | None
Params: TypeAlias = Sequence[SqlValue] | Mapping[str, SqlValue]
Answer: TypeAlias = Coroutine[Any, Any, Any]


# ------------------------------------------------------------------ what bodies see


class Snapshot(Protocol):
    """One read snapshot: what a query's body works with. Its answers may only be awaited by that body."""

    now_us: int

    def fetch_one(self, sql: str, params: Params, convert: Callable[[Any], Any] | None = None) -> Answer: ...
    def fetch_all(self, sql: str, params: Params, convert: Callable[[Any], Any] | None = None) -> Answer: ...
    def get_job(self, job_id: str) -> Answer: ...
    def list_jobs(self, which: JobFilter, cursor: str | None, limit: int) -> Answer: ...
    def count_jobs(self, which: JobFilter) -> Answer: ...
    def count_jobs_up_to(self, which: JobFilter, rows: int) -> Answer: ...
    def overview(self) -> Answer: ...
    def upcoming(self, limit: int) -> Answer: ...
    def failed_attempts(self, job_id: str) -> Answer: ...
    def due_jobs(self, seqs: Sequence[int]) -> Answer: ...
    def get_cron(self, name: str) -> Answer: ...
    def list_crons(self, prefix: str, after: str | None, limit: int) -> Answer: ...
    def cron_runs(
        self, name: str | None, limit: int, before_us: int | None, state: RunState | None = None
    ) -> Answer: ...
    def cron_runs_page(self, name: str | None, state: RunState | None, cursor: str | None, limit: int) -> Answer: ...
    def manifests(self, limit: int) -> Answer: ...
    def manifest_specs(self, version: int) -> Answer: ...
    def nested_query(self, body: QueryBody) -> Answer: ...


class Tx(Snapshot, Protocol):
    """One write transaction: what a mutation's body works with. All of it commits, or nothing."""

    job_seq: int | None  # of the scheduled job this mutation is; None for a live call

    def execute(self, sql: str, params: Params) -> Answer: ...
    def executemany(self, sql: str, rows: Iterable[Params]) -> Answer: ...
    def insert_job(self, job: NewJob) -> Answer: ...
    def insert_jobs(self, jobs: Sequence[NewJob]) -> Answer: ...
    def cancel_job(self, which: CancelJob) -> Answer: ...
    def retry_job(self, job_id: str) -> Answer: ...
    def drop_job(self, job_id: str) -> Answer: ...
    def promote_job(self, job_id: str) -> Answer: ...
    def cancel_jobs(self, which: JobFilter, cursor: str | None, limit: int) -> Answer: ...
    def retry_jobs(self, which: JobFilter, cursor: str | None, limit: int) -> Answer: ...
    def drop_jobs(self, which: JobFilter, cursor: str | None, limit: int) -> Answer: ...
    def change_cron(self, unit: CronUnit) -> Answer: ...
    def nested(self, body: MutationBody) -> Answer: ...


MutationBody: TypeAlias = Callable[[Tx], Coroutine[Any, Any, Any]]
QueryBody: TypeAlias = Callable[[Snapshot], Coroutine[Any, Any, Any]]


class Host(Protocol):
    """Who knows the functions: what the actor and the store ask when a job is due."""

    prepares: bool  # whether due mutations need `prepare` before their turn
    observes: bool  # whether it wants to hear of mutations' attempts
    routing: Routing  # where jobs wait, and what bounds them

    async def prepare(self, job: DueJob) -> Any:
        """Return what a due mutation needs that can only be awaited on the loop. Never raises."""
        ...

    def mutation(self, job: DueJob, prepared: Any) -> tuple[MutationBody, int | None]:
        """Return the body of a due mutation and its time limit in microseconds; raises what makes it fail."""
        ...

    def action(self, job: DueJob) -> Coroutine[Any, Any, Outcome]:
        """Return one attempt of a claimed action: never raises, but for its own cancellation."""
        ...

    def timeout_us(self, job: DueJob) -> int | None:
        """Return how long an attempt of this action may take; None for as long as it likes. Never raises."""
        ...

    def failure(self, error: BaseException) -> Failed:
        """Return the failure that an error of a function, or on the way to it, stands for. Never raises."""
        ...

    def judge(self, job: DueJob, failure: Failed, error: BaseException | None) -> Failed | Again:
        """Return what becomes of a failed attempt: the failure, or another attempt. Never raises.

        `error` is what was raised; None for an attempt that was interrupted or timed out.
        """
        ...

    def keep_us(self, path: str) -> int | None:
        """Return how long a job of this function is kept after it ended; None for ever. Never raises."""
        ...

    def attempted(self, job: DueJob, outcome: Outcome, ended_at_us: int) -> None:
        """Hear that an attempt ended, once that is durable. Never raises."""
        ...

    def starting(self, job: DueJob) -> None:
        """Hear that an attempt is about to start: its claim is durable. Never raises."""
        ...

    def keep(self, path: str, value: object) -> tuple[bytes | None, bool]:
        """Return what is kept of a function's result, and whether it is only an extract. Never raises."""
        ...


# ------------------------------------------------------------------ units: what a turn consists of


class InsertJobs(NamedTuple):
    """Store these jobs, all or none. Answer: their ids."""

    jobs: Sequence[NewJob]


class CancelJob(NamedTuple):
    """Cancel a pending job, by id or by key. Answer: whether it will never start.

    A running action is marked: it is not retried, and what it schedules from then on is born canceled.  With `running`
    it is stopped, too, and the answer is True.
    """

    job_id: str | None = None
    key: str | None = None
    running: bool = False


class RetryJob(NamedTuple):
    """Make a failed job pending again, due now. Answer: whether it was failed."""

    job_id: str
    now_us: int


class PromoteJob(NamedTuple):
    """Let a pending job be due now. Answer: whether it was pending.

    One that is due already keeps its place; one that waits for its turn in a lane goes on waiting for it.
    """

    job_id: str


class DropJob(NamedTuple):
    """Forget a job that has ended. Answer: whether it had."""

    job_id: str


class RetryJobs(NamedTuple):
    """Make the failed among these jobs pending again. Answer: a Swept."""

    which: JobFilter
    cursor: str | None
    limit: int
    now_us: int


class CancelJobs(NamedTuple):
    """Cancel the pending among these jobs. Answer: a Swept."""

    which: JobFilter
    cursor: str | None
    limit: int


class DropJobs(NamedTuple):
    """Forget those among these jobs that have ended. Answer: a Swept."""

    which: JobFilter
    cursor: str | None
    limit: int


class Swept(NamedTuple):
    """What one step of a sweep over many jobs did; `next_cursor` is None when it was the last.

    A step looks at a bounded number of jobs: it may change none, and not be the last.
    """

    changed: int
    next_cursor: str | None


class Prune(NamedTuple):
    """Forget jobs that have been kept long enough, at most `limit`. Answer: a Pruned."""

    now_us: int
    limit: int


class Pruned(NamedTuple):
    """How many jobs were forgotten, and when the next can be; None while nothing waits for it."""

    forgotten: int
    next_us: int | None


class Set(NamedTuple):
    """Keep a setting of an operator's over restarts; None takes it away. Answer: None."""

    name: str
    value: str | int | None


class Mutate(NamedTuple):
    """Run a live mutation. Answer: what it returned."""

    body: MutationBody
    context: Context | None = None  # the caller's context variables
    limit_us: int | None = None
    idempotent: Idempotent | None = None


class Idempotent(NamedTuple):
    """A live mutation that leaves a row: the first success is the answer to every resend."""

    key: str
    path: str
    args: bytes


class Earlier(NamedTuple):
    """The answer of a live mutation that had succeeded before under its key: its result, as it was stored."""

    value: Any


class RunDue(NamedTuple):
    """Run the due mutation, claim the due action, or fire the due cron.

    Answer: a Claimed for an action, a Fired for a cron.
    """

    queue: str
    entry: Entry
    prepared: Any = None  # what `Host.prepare` gave


class CompleteJob(NamedTuple):
    """Record the outcome of a claimed action's attempt. Answer: whether the claim still stood."""

    job: DueJob
    outcome: Outcome
    completed_at_us: int


Unit: TypeAlias = (
    InsertJobs
    | CancelJob
    | RetryJob
    | PromoteJob
    | DropJob
    | CancelJobs
    | RetryJobs
    | DropJobs
    | Prune
    | Set
    | StageCrons
    | ActivateCrons
    | CronTargets
    | CronUnit
    | Mutate
    | RunDue
    | CompleteJob
)


class Ran(NamedTuple):
    """A due mutation's attempt, told when the host observes."""

    job: DueJob
    outcome: Outcome
    ended_at_us: int


class Fired(NamedTuple):
    """What a cron's fire time brought: how many ticks run, and which do not."""

    cron: str
    runs: int
    drops: Sequence[Drop]


class Claimed(NamedTuple):
    """An action whose `in_progress` row is durable: it may start now, and in this process only."""

    job: DueJob


class Refill(NamedTuple):
    """Read what follows a window's horizon, at the end of the turn."""

    queue: str
    after: Entry
    limit: int


# ------------------------------------------------------------------ what a turn gives


class Done(NamedTuple):
    """The unit committed, with this answer."""

    value: Any = None


class Refused(NamedTuple):
    """The unit definitely changed nothing (a due job's failure is its own record, and is Done)."""

    error: BaseException


class Unknown(NamedTuple):
    """The unit may or may not have committed."""

    error: BaseException


Reply: TypeAlias = Done | Refused | Unknown


@dataclass(slots=True)
class Effects:
    """What committed units changed of the set of pending jobs, in order."""

    pending: list[tuple[str, Entry]] = field(default_factory=list)  # inserted, or pending again
    gone: list[tuple[str, Entry]] = field(default_factory=list)  # canceled before they started
    ended: list[int] = field(default_factory=list)  # reached a terminal state
    stopping: list[tuple[int, bool]] = field(default_factory=list)  # running, asked to be canceled; stopped at once?


@dataclass(slots=True)
class TurnResult:
    """One reply for each unit that was run, in order; units beyond them were not begun.

    `broken` is why the store must be reopened before anything else: an error after which its state is not known.
    """

    replies: list[Reply] = field(default_factory=list)
    effects: Effects = field(default_factory=Effects)
    refills: list[tuple[Refill, list[Entry], bool]] = field(default_factory=list)  # what was read, and if all
    broken: ActorSchedulerError | None = None


@dataclass(slots=True)
class Found:
    """What a store holds when it is opened: what the actor needs before its first turn."""

    queues: Sequence[str] = ()  # in which jobs wait
    settings: Mapping[str, Any] = field(default_factory=dict)  # what operators have set
    starts: Mapping[str, Sequence[int]] = field(default_factory=dict)  # of the last period, by the gate of the rate
    last_us: int | None = None  # the latest moment the store knows of: the clock can hardly be before it
    prune_us: int | None = None  # when the first ended job can be forgotten
    interrupted: Sequence[tuple[DueJob, Outcome]] = ()  # attempts that the last process left, and what became of them


class Store(Protocol):
    """Where jobs live. One owner at a time; `apply` is never called while another is under way."""

    async def open(self) -> Found:
        """Take ownership, migrate, and record this boot. Attempts left by other boots are judged as interrupted."""
        ...

    async def reopen(self, running: Sequence[tuple[int, int]]) -> Found:
        """Start again from the file after `broken`.

        Claims of this boot that are not in `running`, by job and attempt, become pending again.
        """
        ...

    async def apply(self, units: Sequence[Unit], refills: Sequence[Refill]) -> TurnResult:
        """Run a turn. Never raises for what a unit did; cancelling the caller never cancels the turn."""
        ...

    async def idle(self) -> None:
        """Return once no turn is under way, also one whose caller was canceled."""
        ...

    def check_file(self) -> None:
        """Raise StoreUnavailable when what was opened is not there any more."""
        ...

    def check_process(self) -> None:
        """Raise StoreUnavailable in a forked child of the process that owns the store."""
        ...

    def busy_with(self) -> str:
        """Return where the turn under way stands, as a stack for the log."""
        ...

    def abandon(self) -> None:
        """Give up without waiting for a turn that does not end. Ownership ends with the process."""
        ...

    async def query(self, body: QueryBody, limit_us: int | None) -> Any:
        """Run a query's body in one read snapshot and return what it returns."""
        ...

    async def close(self, *, checkpoint: bool = True) -> None:
        """Give up ownership. Without `checkpoint` nothing is tidied, as if the process had died."""
        ...


JobPage: TypeAlias = Page[Job]
