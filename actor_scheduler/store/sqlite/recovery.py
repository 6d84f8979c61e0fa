"""What a boot does to the file before anything else runs. Harmless to repeat, from any point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from actor_scheduler.crashpoints import reach
from actor_scheduler.limits import DEATHS_MAX, PRIORITY_MAX
from actor_scheduler.model import ACTIONS, MUTATIONS, Again, DueJob, Failed, Outcome, Stopped
from actor_scheduler.queues import PARKED, Rate, Routing, base_of
from actor_scheduler.retention import prune_at_us
from actor_scheduler.store.base import Found
from actor_scheduler.store.sqlite import job_rows
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.jobs import SEQ_BLOCK
from actor_scheduler.store.sqlite.steering import SETTING, oldest
from actor_scheduler.store.sqlite.zones import renew

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Sequence

    from actor_scheduler.store.base import Host
    from actor_scheduler.store.sqlite.jobs import JobWriter

T = TypeVar("T")

_EPOCH: Final = ours("SELECT value FROM main._scheduler_meta WHERE name = 'boot_epoch'")
_SET_EPOCH: Final = ours("UPDATE main._scheduler_meta SET value = ? WHERE name = 'boot_epoch'")
_RESERVED: Final = ours("SELECT value FROM main._scheduler_meta WHERE name = 'seq_reserved'")
_RESERVE: Final = ours("UPDATE main._scheduler_meta SET value = ? WHERE name = 'seq_reserved'")
_HIGHEST: Final = ours("SELECT coalesce(max(seq), 0) FROM main._scheduler_jobs")
_END_LEFT: Final = ours(
    "UPDATE main._scheduler_jobs SET state = ?, cause = ?, completed_at_us = ?, prune_at_us = ?, error = ?,"
    " error_code = NULL, error_data = NULL, traceback = NULL, deaths = ?"
    " WHERE seq = ? AND state = 'in_progress' AND boot <> ?",
)
_AGAIN_LEFT: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'pending', fire_at_us = ?, cause = ?, error = ?, deaths = ?, boot = NULL,"
    " error_code = NULL, error_data = NULL, traceback = NULL"
    " WHERE seq = ? AND state = 'in_progress' AND boot <> ?",
)
_RECORD_LEFT: Final = ours(
    "INSERT OR REPLACE INTO main._scheduler_attempts (job_seq, attempt, boot, started_at_us, ended_at_us, cause, error)"
    " SELECT seq, attempt, boot, coalesce(started_at_us, 0), ?, ?, ? FROM main._scheduler_jobs"
    " WHERE seq = ? AND state = 'in_progress' AND boot <> ?"
)
_CLAIMED: Final = ours("SELECT seq, attempt FROM main._scheduler_jobs WHERE state = 'in_progress' AND boot = ?")
_UNCLAIM: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'pending', attempt = attempt - 1, started_at_us = NULL, boot = NULL,"
    " canceling = 0 WHERE seq = ? AND state = 'in_progress' AND boot = ?",
)
_DIED: Final = ours("UPDATE main._scheduler_jobs SET deaths = deaths + 1 WHERE seq = ? AND state = 'pending'")
_CRASH_LOOP: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'failed', cause = 'crash_loop', completed_at_us = ?, prune_at_us = ?,"
    " error = ? WHERE seq = ? AND state = 'pending' AND deaths >= ?"
)
_DEATHS: Final = ours("SELECT deaths, path FROM main._scheduler_jobs WHERE seq = ?")
_QUEUES: Final = ours(
    "WITH RECURSIVE queues(name) AS (SELECT min(queue) FROM main._scheduler_jobs WHERE state = 'pending' UNION ALL"
    " SELECT (SELECT min(queue) FROM main._scheduler_jobs WHERE state = 'pending' AND queue > name) FROM queues"
    " WHERE name IS NOT NULL) SELECT CAST(name AS BLOB) FROM queues WHERE name IS NOT NULL"
)
# The last start, or the newest job, whichever is later.
_LAST: Final = ours(
    "SELECT max(value) FROM (SELECT value FROM main._scheduler_meta WHERE name = 'started_at_us' UNION ALL"
    " SELECT created_at_us FROM (SELECT created_at_us FROM main._scheduler_jobs ORDER BY seq DESC LIMIT 1))"
)
_SET_LAST: Final = ours("INSERT OR REPLACE INTO main._scheduler_meta (name, value) VALUES ('started_at_us', ?)")
_ROUTED: Final = ours("SELECT value FROM main._scheduler_meta WHERE name = 'routing'")
_SET_ROUTED: Final = ours("INSERT OR REPLACE INTO main._scheduler_meta (name, value) VALUES ('routing', ?)")
# Names of queues are compared as bytes: what a damaged file holds need not be text.
_WAITING: Final = ours(
    "SELECT DISTINCT path, kind, priority FROM main._scheduler_jobs WHERE state = 'pending' AND queue = CAST(? AS TEXT)"
)
_MAKE_ROUTES: Final = ours(
    "CREATE TEMP TABLE _scheduler_routes (path TEXT, kind TEXT, priority INTEGER, queue TEXT,"
    " PRIMARY KEY (path, kind, priority)) WITHOUT ROWID"
)
_ADD_ROUTE: Final = ours("INSERT OR IGNORE INTO temp._scheduler_routes VALUES (?, ?, ?, ?)")
_DROP_ROUTES: Final = ours("DROP TABLE temp._scheduler_routes")
_ROUTE: Final = "FROM temp._scheduler_routes AS r WHERE r.path = j.path AND r.kind = j.kind AND r.priority = j.priority"
_MOVE: Final = ours(
    f"UPDATE main._scheduler_jobs AS j SET queue = iif(lane IS NULL, '', ?) || (SELECT r.queue {_ROUTE})"
    f" WHERE state = 'pending' AND queue = CAST(? AS TEXT) AND EXISTS (SELECT 1 {_ROUTE})"
)
_MOVE_REST: Final = ours(
    "UPDATE main._scheduler_jobs SET queue = iif(lane IS NULL, '', ?) ||"
    f" iif(kind = 'mutation', '{MUTATIONS}', '{ACTIONS}') WHERE state = 'pending' AND queue = CAST(? AS TEXT)"
)
_SETTINGS: Final = ours("SELECT name, value FROM main._scheduler_meta WHERE name >= 'set:' AND name < 'set;'")
_STARTED: Final = (
    "queue = :queue AND queue >= 'rate:' AND queue < 'rate;' AND j.started_at_us > :since"
    " AND j.started_at_us IS NOT NULL"
)
# Of a job that was tried more than once, its row has the last start, or none after a retry by hand; those before stand
# on record.
_STARTS: Final = ours(
    f"SELECT j.started_at_us FROM main._scheduler_jobs AS j WHERE {_STARTED} UNION ALL SELECT a.started_at_us"
    f" FROM main._scheduler_jobs AS j CROSS JOIN main._scheduler_attempts AS a ON a.job_seq = j.seq WHERE {_STARTED}"
    " AND a.attempt < j.attempt AND a.started_at_us > :since UNION ALL SELECT a.started_at_us"
    " FROM main._scheduler_jobs AS j CROSS JOIN main._scheduler_attempts AS a ON a.job_seq = j.seq"
    " WHERE j.state = 'pending' AND j.queue IN (:queue, '~' || :queue) AND j.attempt > 0 AND j.started_at_us IS NULL"
    " AND a.started_at_us > :since ORDER BY 1 DESC LIMIT :count"
)
_CANCELING: Final = ours("SELECT seq FROM main._scheduler_jobs WHERE state = 'in_progress' AND canceling = 1")

INTERRUPTED: Final = Failed("interrupted", "the process ended while this action was running")
CRASH_LOOP: Final = Failed("crash_loop", f"it was running each of {DEATHS_MAX} times in a row that the process died")


class Boot(NamedTuple):
    """A boot's number, the first free sequence number, the time before it, and the attempts that were left behind."""

    number: int
    next_seq: int
    last_us: int | None
    interrupted: Sequence[tuple[DueJob, Outcome]]


def begin_boot(raw: sqlite3.Connection, now_us: int, host: Host) -> Boot:
    """Give this boot its number, judge the attempts that another boot left, and put every job where it belongs.

    In one transaction.
    """

    def work() -> Boot:
        boot: int = raw.execute(_EPOCH).fetchone()[0] + 1
        raw.execute(_SET_EPOCH, (boot,))
        interrupted = [_judge_left(raw, left, boot, now_us, host) for left in job_rows.left_behind(raw, boot)]
        reach("boot.judged")
        _reroute(raw, host.routing)
        reach("boot.rerouted")
        renew(raw)
        next_seq = max(raw.execute(_RESERVED).fetchone()[0], raw.execute(_HIGHEST).fetchone()[0] + 1, 1)
        raw.execute(_RESERVE, (next_seq + SEQ_BLOCK,))
        last_us = raw.execute(_LAST).fetchone()[0]
        raw.execute(_SET_LAST, (now_us,))
        return Boot(boot, next_seq, last_us, interrupted)

    return _in_transaction(raw, work)


def _judge_left(
    raw: sqlite3.Connection, left: job_rows.Left, boot: int, now_us: int, host: Host
) -> tuple[DueJob, Outcome]:
    """Decide what becomes of an attempt that died with its process, and write it."""
    job, deaths = left.job, left.deaths + 1
    outcome: Outcome = host.judge(job, INTERRUPTED, None)
    if left.canceling:
        outcome = Stopped()
    elif isinstance(outcome, Again) and deaths >= DEATHS_MAX:
        outcome = CRASH_LOOP
    if isinstance(outcome, Again):
        failure, fire_at_us = outcome.failure, now_us + outcome.delay_us
        raw.execute(_RECORD_LEFT, (now_us, failure.cause, failure.error, job.seq, boot))
        raw.execute(_AGAIN_LEFT, (fire_at_us, failure.cause, failure.error, deaths, job.seq, boot))
        return job, outcome
    state, cause, error = "canceled", None, None
    if isinstance(outcome, Failed):
        if outcome.cause == "interrupted":
            outcome = outcome._replace(error=f"{outcome.error}; it was not run again")
        state, cause, error = "failed", outcome.cause, outcome.error
    prune_us = prune_at_us(now_us, host.keep_us(job.path))
    raw.execute(_END_LEFT, (state, cause, now_us, prune_us, error, deaths, job.seq, boot))
    return job, outcome


def _reroute(raw: sqlite3.Connection, routing: Routing) -> None:
    """Put every pending job into the queue of today: its function may have got other limits since it was scheduled.

    Where the functions' limits are as they were, only queues that nobody serves are looked at.
    """
    today = repr((sorted(routing.bases.items()), sorted(routing.passes.items())))
    row = raw.execute(_ROUTED).fetchone()
    known = row is not None and row[0] == today
    queues = [queue for queue in _queues(raw) if not (known and _is_served(queue, routing))]
    if queues:
        raw.execute(_MAKE_ROUTES)
        for queue in queues:
            _move(raw, queue, routing)
        raw.execute(_DROP_ROUTES)
    if not known:
        raw.execute(_SET_ROUTED, (today,))


def _move(raw: sqlite3.Connection, queue: bytes, routing: Routing) -> None:
    """Move every pending job of a queue that belongs elsewhere, however many functions there are, in one pass."""
    parked, name = _split(queue)
    waiting = job_rows.read(raw, _WAITING, (queue,))
    routes = [(path, kind, priority, routing.queue(path, kind, priority)) for path, kind, priority in waiting]
    if any(right != name for *_, right in routes):
        raw.executemany(_ADD_ROUTE, routes)
        raw.execute(_MOVE, (parked, queue))
    if not _is_served(queue, routing):  # what is left of it is damaged: there it fails, and is seen
        raw.execute(_MOVE_REST, (parked, queue))


def _queues(raw: sqlite3.Connection) -> list[bytes]:
    return [queue for (queue,) in raw.execute(_QUEUES)]


def _split(queue: bytes) -> tuple[str, str]:
    """Return whether a queue is a waiting room of lanes, as a prefix, and the name it has otherwise."""
    text = queue.decode("utf-8", "replace")
    parked = PARKED if text.startswith(PARKED) else ""
    return parked, text.removeprefix(parked)


def _is_served(queue: bytes, routing: Routing) -> bool:
    base = base_of(_split(queue)[1])
    return base in (MUTATIONS, ACTIONS) or base in routing.passes


def found(raw: sqlite3.Connection, routing: Routing, now_us: int, boot: Boot | None = None) -> Found:
    """Return what the actor needs to know of the file."""
    starts = {
        gate: _starts(
            raw, [gate, *(f"rate:{path}" for path, base in routing.bases.items() if base == gate)], limit, now_us
        )
        for gate, limit in routing.gates.items()
        if isinstance(limit, Rate)
    }
    return Found(
        queues=[name for parked, name in map(_split, _queues(raw)) if not parked],
        settings={name.removeprefix(SETTING): value for name, value in raw.execute(_SETTINGS)},
        starts=starts,
        prune_us=oldest(raw),
        last_us=boot.last_us if boot is not None else None,
        interrupted=boot.interrupted if boot is not None else (),
    )


def _starts(raw: sqlite3.Connection, bases: Sequence[str], rate: Rate, now_us: int) -> list[int]:
    """Return the last starts that a rate has let through, whatever their priority was, and their function's name."""
    ranks = [f"#{priority}" if priority else "" for priority in range(-PRIORITY_MAX, PRIORITY_MAX + 1)]
    queues = [f"{base}{rank}" for base in dict.fromkeys(bases) for rank in ranks]
    since_us = now_us - rate.period_us
    asked = [{"queue": queue, "since": since_us, "count": rate.starts} for queue in queues]
    found = [at_us for values in asked for (at_us,) in raw.execute(_STARTS, values)]
    return sorted(found)[-rate.starts :]


def canceling(raw: sqlite3.Connection) -> list[int]:
    """Return the running actions that were asked to be canceled."""
    return [seq for (seq,) in raw.execute(_CANCELING)]


def settle_lanes(raw: sqlite3.Connection, writer: JobWriter, now_us: int) -> None:
    """Put the head of every lane into its queue, in one transaction: any of them may have ended meanwhile."""

    def work() -> None:
        writer.begin(now_us)
        writer.lanes.settle_all(writer.changes)

    if writer.lanes.used:
        _in_transaction(raw, work)


class Blamed(NamedTuple):
    """How many processes a mutation has taken down, and the job if that was one too many."""

    deaths: int
    name: str
    failed: DueJob | None


def blame(raw: sqlite3.Connection, seq: int, now_us: int, host: Host) -> Blamed:
    """Count a death against the mutation that was running when the process died.

    At DEATHS_MAX it is failed with the cause `crash_loop`, so that the others run.
    """

    def work() -> Blamed:
        raw.execute(_DIED, (seq,))
        row = raw.execute(_DEATHS, (seq,)).fetchone()
        if row is None:
            return Blamed(0, "", None)
        deaths, path = row
        job = job_rows.due_if_readable(raw, seq, now_us)
        prune_us = prune_at_us(now_us, host.keep_us(path))
        raw.execute(_CRASH_LOOP, (now_us, prune_us, CRASH_LOOP.error, seq, DEATHS_MAX))
        name = f"{path} {job.id}" if job is not None else f"{path} (row {seq})"
        return Blamed(deaths, name, job if deaths >= DEATHS_MAX else None)

    return _in_transaction(raw, work)


def release_unstarted(raw: sqlite3.Connection, boot: int, running: Collection[tuple[int, int]]) -> int:
    """Make this boot's claims pending again that never started, and return how many there were.

    After a commit of unknown outcome a claim may have become durable though the action was never started: starts wait
    for the acknowledgement, so whatever is not in `running` has not started.
    """

    def work() -> int:
        claimed: list[tuple[int, int]] = raw.execute(_CLAIMED, (boot,)).fetchall()
        unstarted = [(claim[0], boot) for claim in claimed if claim not in running]
        raw.executemany(_UNCLAIM, unstarted)
        return len(unstarted)

    return _in_transaction(raw, work)


def _in_transaction(raw: sqlite3.Connection, work: Callable[[], T]) -> T:
    raw.execute(ours("BEGIN IMMEDIATE"))
    try:
        result = work()
        raw.execute(ours("COMMIT"))
    except BaseException:
        if raw.in_transaction:
            raw.execute(ours("ROLLBACK"))
        raise
    return result
