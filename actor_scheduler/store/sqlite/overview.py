"""What an operator sees first: how many jobs and crons there are, and what starts next. Through indexes only."""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.errors import InvalidArgs
from actor_scheduler.ids import format_id
from actor_scheduler.limits import MISSED_AFTER_US, PAGE_MAX
from actor_scheduler.model import Overview, Upcoming
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.job_rows import moment, read

if TYPE_CHECKING:
    import sqlite3

_PENDING: Final = ours(
    "SELECT count(*), count(*) FILTER (WHERE fire_at_us <= ?), min(fire_at_us)"
    " FROM main._scheduler_jobs INDEXED BY _scheduler_jobs_due WHERE state = 'pending'"
)
_RUNNING: Final = ours(
    "SELECT count(*) FROM main._scheduler_jobs INDEXED BY _scheduler_jobs_running WHERE state = 'in_progress'"
)
_FAILED: Final = ours(
    "SELECT count(*) FROM main._scheduler_jobs INDEXED BY _scheduler_jobs_failed WHERE state = 'failed'"
)
_ENDED: Final = ours(
    "SELECT count(*) FROM main._scheduler_jobs INDEXED BY _scheduler_jobs_prune WHERE prune_at_us IS NOT NULL"
)
_CRONS: Final = ours(
    "SELECT count(*), count(paused_at_us), count(*) FILTER (WHERE trouble IS NOT NULL OR watermark_us > ?)"
    " FROM main._scheduler_crons"
)
_QUEUES: Final = ours(
    "WITH RECURSIVE queues(name) AS (SELECT min(queue) FROM main._scheduler_jobs WHERE state = 'pending' UNION ALL"
    " SELECT (SELECT min(queue) FROM main._scheduler_jobs WHERE state = 'pending' AND queue > name) FROM queues"
    " WHERE name IS NOT NULL) SELECT name FROM queues WHERE name IS NOT NULL"
)
_JOBS: Final = ours(
    "SELECT fire_at_us, seq, nonce, path, cron, key FROM main._scheduler_jobs INDEXED BY _scheduler_jobs_due"
    " WHERE queue = ? AND state = 'pending' ORDER BY fire_at_us, seq LIMIT ?"
)
_TICKS: Final = ours(
    "SELECT fire_at_us, id, name, path FROM main._scheduler_crons WHERE fire_at_us IS NOT NULL"
    " ORDER BY fire_at_us, id LIMIT ?"
)


def overview(raw: sqlite3.Connection, now_us: int) -> Overview:
    """Return how many jobs and crons there are, by what they wait for. Reads no row of a job: indexes alone."""
    pending, due, oldest_us = raw.execute(_PENDING, (now_us,)).fetchone()
    crons, paused, troubled = raw.execute(_CRONS, (now_us + MISSED_AFTER_US,)).fetchone()
    return Overview(
        pending=pending,
        due=due,
        in_progress=raw.execute(_RUNNING).fetchone()[0],
        failed=raw.execute(_FAILED).fetchone()[0],
        ended=raw.execute(_ENDED).fetchone()[0],
        oldest_due_at=moment(oldest_us) if due else None,
        crons=crons,
        crons_paused=paused,
        crons_troubled=troubled,
    )


def upcoming(raw: sqlite3.Connection, limit: int) -> list[Upcoming]:
    """Return the next jobs and crons to start, by fire time; O(queues * limit). Raises InvalidArgs."""
    if type(limit) is not int or not 1 <= limit <= PAGE_MAX:
        msg = f"limit must be from 1 to {PAGE_MAX}, not {limit!r:.40}"
        raise InvalidArgs(msg)
    queues = [queue for (queue,) in raw.execute(_QUEUES)]
    # A number is a job's or a cron's, never both: no two rows are equal in their first two columns.
    lines = [read(raw, _JOBS, (queue, limit)) for queue in queues] + [read(raw, _TICKS, (limit,))]
    return [_upcoming(row) for row in islice(merge(*lines), limit)]


def _upcoming(row: tuple[Any, ...]) -> Upcoming:
    if len(row) == len(("fire_at_us", "id", "name", "path")):
        at_us, _, name, path = row
        return Upcoming("cron", moment(at_us), path, None, name, None)
    at_us, seq, nonce, path, cron, key = row
    return Upcoming("job", moment(at_us), path, format_id(seq, nonce), cron, key)
