"""A bench for any store: a host whose functions a test writes, and the steps that cases are made of."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from actor_scheduler import codec
from actor_scheduler.clock import Clock
from actor_scheduler.limits import KEEP_US
from actor_scheduler.model import Again, DueJob, Entry, Failed, Job, JobFilter, Kind, NewJob, Outcome
from actor_scheduler.queues import PLAIN
from actor_scheduler.store.base import (
    Claimed,
    Done,
    Effects,
    Host,
    InsertJobs,
    Mutate,
    MutationBody,
    Refill,
    Refused,
    Reply,
    RunDue,
    Snapshot,
    Store,
    TurnResult,
    Tx,
    Unit,
)
from actor_scheduler.testing.clock import START_US, VirtualClock

if TYPE_CHECKING:
    from actor_scheduler.errors import ActorSchedulerError

T = TypeVar("T")
MakeStore: TypeAlias = Callable[[Host, Clock], Store]
Case: TypeAlias = Callable[[MakeStore], Awaitable[None]]

# Standard SQL, for the factory to apply once. The deferred reference is what only a commit can refuse.
SCHEMA: Final = (
    "CREATE TABLE items (name TEXT PRIMARY KEY, amount INTEGER NOT NULL)",
    (
        "CREATE TABLE parts (name TEXT PRIMARY KEY,"
        " item TEXT NOT NULL REFERENCES items (name) DEFERRABLE INITIALLY DEFERRED)"
    ),
)

NOTHING: Final = Entry(-(1 << 62), 0)
SECOND: Final = 1_000_000


class Boom(Exception):
    """What a failing body of these cases raises."""


class ScriptedHost:
    """A host whose mutations are given by path."""

    prepares = False

    def __init__(self) -> None:
        self.bodies: dict[str, MutationBody] = {}
        self.observes = False
        self.routing = PLAIN
        self.keeps_us: int | None = KEEP_US
        self.again: dict[str, int] = {}  # the pause after a failed attempt, by path

    async def prepare(self, job: DueJob) -> Any:
        """Have nothing to prepare."""

    def mutation(self, job: DueJob, prepared: Any) -> tuple[MutationBody, int | None]:
        """Return the body of this path. Raises LookupError when there is none."""
        return self.bodies[job.path], None

    async def action(self, job: DueJob) -> Outcome:
        """Never be asked: these cases claim actions and complete them without running them."""
        raise NotImplementedError

    def failure(self, error: BaseException) -> Failed:
        """Return the error as a failure."""
        return Failed("error", f"{type(error).__name__}: {error}"[:200])

    def judge(self, job: DueJob, failure: Failed, error: BaseException | None) -> Failed | Again:
        """Return another attempt where the path has a pause, else the failure."""
        del error
        return Again(failure, self.again[job.path]) if job.path in self.again else failure

    def timeout_us(self, job: DueJob) -> int | None:
        """Return what the job says."""
        return job.timeout_us

    def keep_us(self, path: str) -> int | None:
        """Return the same for every path."""
        del path
        return self.keeps_us

    def starting(self, job: DueJob) -> None:
        """Hear nothing."""

    def attempted(self, job: DueJob, outcome: Outcome, ended_at_us: int) -> None:
        """Hear nothing."""

    def keep(self, path: str, value: object) -> tuple[bytes | None, bool]:
        """Keep results as the scheduler does."""
        return codec.encode_result(value)


class Bench:
    """One database under test: the store that is open on it now, and short words for what cases do with it."""

    def __init__(self, make_store: MakeStore) -> None:
        self._make_store = make_store
        self.host = ScriptedHost()
        self.clock = VirtualClock()
        self.store = make_store(self.host, self.clock)
        self.last = TurnResult()  # of the turns of the last `run`, merged

    async def restart(self) -> None:
        """End as a crash would, and open the same database again."""
        await self.store.close(checkpoint=False)
        self.store = self._make_store(self.host, self.clock)
        await self.store.open()

    async def run(self, *units: Unit, refills: Sequence[Refill] = ()) -> list[Reply]:
        """Run units to their replies; a store may answer fewer than it was given, but never none, and never more."""
        replies: list[Reply] = []
        merged = Effects()
        while True:
            rest = units[len(replies) :]
            result = await self.store.apply(rest, refills)
            assert result.broken is None, result.broken
            assert len(result.replies) <= len(rest)
            assert result.replies or not rest, "a turn that makes no progress would be tried for ever"
            replies.extend(result.replies)
            merged.pending += result.effects.pending
            merged.gone += result.effects.gone
            merged.ended += result.effects.ended
            merged.stopping += result.effects.stopping
            if len(replies) == len(units):
                self.last = TurnResult(replies, merged, result.refills)
                return replies

    async def value(self, unit: Unit) -> Any:
        """Run one unit and return its answer; raise what it was refused with."""
        (reply,) = await self.run(unit)
        if isinstance(reply, Refused):
            raise reply.error
        assert isinstance(reply, Done)
        return reply.value

    async def insert(self, *jobs: NewJob) -> list[str]:
        """Insert jobs and return their ids."""
        ids: list[str] = await self.value(InsertJobs(jobs))
        return ids

    async def mutate(self, body: MutationBody) -> Any:
        """Run a live mutation."""
        return await self.value(Mutate(body))

    async def entries(self, queue: str) -> list[Entry]:
        """Return every pending entry of a queue, as a complete refill gives them."""
        await self.run(refills=[Refill(queue, NOTHING, 10_000)])
        ((refill, entries, complete),) = self.last.refills
        assert (refill.queue, complete) == (queue, True)
        return entries

    async def due(self, queue: str) -> list[RunDue]:
        """Return a unit for each pending entry of a queue."""
        return [RunDue(queue, entry) for entry in await self.entries(queue)]

    async def job(self, job_id: str) -> Job:
        """Return a job that exists."""
        job: Job | None = await self.ask(lambda snapshot: snapshot.get_job(job_id))
        assert job is not None
        return job

    async def states(self, ids: Iterable[str]) -> list[str]:
        """Return the states of jobs."""
        return [(await self.job(job_id)).state for job_id in ids]

    async def count(self) -> int:
        """Return how many jobs there are."""
        found: int = await self.ask(lambda snapshot: snapshot.count_jobs(JobFilter()))
        return found

    async def items(self) -> dict[str, int]:
        """Return the app's table, as a query sees it."""
        found: dict[str, int] = await self.ask(read_items)
        return found

    async def ask(self, what: Callable[[Snapshot], Coroutine[Any, Any, T]]) -> T:
        """Run a query."""

        async def body(snapshot: Snapshot) -> T:
            return await what(snapshot)

        answer: T = await self.store.query(body, None)
        return answer


@contextlib.asynccontextmanager
async def opened(make_store: MakeStore) -> AsyncIterator[Bench]:
    """Open a bench, and close its store as an orderly end does."""
    bench = Bench(make_store)
    await bench.store.open()
    try:
        yield bench
    finally:
        await bench.store.close()


# ------------------------------------------------------------------ bodies and jobs


async def read_items(snapshot: Snapshot) -> dict[str, int]:
    """Return the app's table."""
    rows = await snapshot.fetch_all("SELECT name, amount FROM items ORDER BY name", ())
    return {row["name"]: row["amount"] for row in rows}


def writes(name: str, *, then: type[Exception] | None = None, child: NewJob | None = None) -> MutationBody:
    """Return a body that writes one item, schedules a child, and raises or returns the name."""

    async def body(tx: Tx) -> str:
        await tx.execute("INSERT INTO items (name, amount) VALUES (?, ?)", (name, 1))
        if child is not None:
            await tx.insert_job(child)
        if then is not None:
            raise then(name)
        return name

    return body


def orphans(name: str) -> MutationBody:
    """Return a body that succeeds, and that the commit refuses: its reference leads nowhere."""

    async def body(tx: Tx) -> None:
        await tx.execute("INSERT INTO parts (name, item) VALUES (?, ?)", (name, "nowhere"))

    return body


def mutation(path: str = "m", *, after_us: int = 0, **options: Any) -> NewJob:
    """Return a mutation's job, due `after_us` after the start."""
    return _new_job(path, "mutation", after_us, options)


def action(path: str = "a", *, after_us: int = 0, **options: Any) -> NewJob:
    """Return an action's job."""
    return _new_job(path, "action", after_us, options)


def _new_job(path: str, kind: Kind, after_us: int, options: dict[str, Any]) -> NewJob:
    at_us = START_US + after_us
    queue = PLAIN.queue(path, kind, options.get("priority", 0))
    return NewJob(path, kind, queue, codec.encode({}), at_us, at_us, START_US, **options)


def claims(replies: Iterable[Reply]) -> list[DueJob]:
    """Return what was claimed, in order."""
    return [reply.value.job for reply in replies if isinstance(reply, Done) and isinstance(reply.value, Claimed)]


async def refused(work: Awaitable[Any], error: type[ActorSchedulerError]) -> None:
    """Assert that a unit is refused with this error."""
    try:
        value = await work
    except error:
        return
    raise AssertionError(f"expected {error.__name__}, got {value!r}")
