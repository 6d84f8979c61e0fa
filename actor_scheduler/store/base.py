"""The store's port. It is about turns, not about statements.

A turn is a list of units in order of acceptance.  The store runs them in one transaction, drives the mutations among
them itself, and answers after the commit.  That cut lets SQLite run a whole turn in one hop to its own thread
(`coro.send`), and lets a networked database await between statements, behind the same five methods.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from actor_scheduler.model import DueJob, Entry, Failed, Job, JobFilter, NewJob, Outcome, Page

if TYPE_CHECKING:
    from contextvars import Context

    from actor_scheduler.errors import ActorSchedulerError

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
    def due_jobs(self, seqs: Sequence[int]) -> Answer: ...
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
    def nested(self, body: MutationBody) -> Answer: ...


MutationBody: TypeAlias = Callable[[Tx], Coroutine[Any, Any, Any]]
QueryBody: TypeAlias = Callable[[Snapshot], Coroutine[Any, Any, Any]]


class Host(Protocol):
    """Who knows the functions: what the actor and the store ask when a job is due."""

    prepares: bool  # whether due mutations need `prepare` before their turn

    async def prepare(self, job: DueJob) -> Any:
        """Return what a due mutation needs that can only be awaited on the loop. Never raises."""
        ...

    def mutation(self, job: DueJob, prepared: Any) -> tuple[MutationBody, int | None]:
        """Return the body of a due mutation and its time limit in microseconds; raises what makes it fail."""
        ...

    def action(self, job: DueJob) -> Coroutine[Any, Any, Outcome]:
        """Return one attempt of a claimed action: never raises, but for its own cancellation."""
        ...

    def failure(self, error: BaseException) -> Failed:
        """Return the outcome that an error of a function, or on the way to it, stands for."""
        ...

    def keep(self, path: str, value: object) -> tuple[bytes | None, bool]:
        """Return what is kept of a function's result, and whether it is only an extract. Never raises."""
        ...


# ------------------------------------------------------------------ units: what a turn consists of


class InsertJobs(NamedTuple):
    """Store these jobs, all or none. Answer: their ids."""

    jobs: Sequence[NewJob]


class CancelJob(NamedTuple):
    """Cancel a pending job, by id or by key. Answer: whether it will never start."""

    job_id: str | None = None
    key: str | None = None


class RetryJob(NamedTuple):
    """Make a failed job pending again, due now. Answer: whether it was failed."""

    job_id: str
    now_us: int


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
    """Run the due mutation, or claim the due action. Answer: a Claimed for an action, else None."""

    queue: str
    entry: Entry
    prepared: Any = None  # what `Host.prepare` gave


class CompleteJob(NamedTuple):
    """Record the outcome of a claimed action's attempt. Answer: whether the claim still stood."""

    seq: int
    attempt: int
    outcome: Outcome
    completed_at_us: int


Unit: TypeAlias = InsertJobs | CancelJob | RetryJob | Mutate | RunDue | CompleteJob


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


@dataclass(slots=True)
class TurnResult:
    """One reply for each unit that was run, in order; units beyond them were not begun.

    `broken` is why the store must be reopened before anything else: an error after which its state is not known.
    """

    replies: list[Reply] = field(default_factory=list)
    effects: Effects = field(default_factory=Effects)
    refills: list[tuple[Refill, list[Entry], bool]] = field(default_factory=list)  # what was read, and if all
    broken: ActorSchedulerError | None = None


class Store(Protocol):
    """Where jobs live. One owner at a time; `apply` is never called while another is under way."""

    async def open(self) -> None:
        """Take ownership, migrate, and record this boot. Actions left in progress by other boots become failed."""
        ...

    async def reopen(self, running: Sequence[int]) -> None:
        """Start again from the file after `broken`. Claims of this boot not in `running` become pending again."""
        ...

    async def apply(self, units: Sequence[Unit], refills: Sequence[Refill]) -> TurnResult:
        """Run a turn. Never raises for what a unit did; cancelling the caller never cancels the turn."""
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
