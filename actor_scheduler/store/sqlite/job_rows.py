"""Reading jobs: one, a page, a count, a window. Plain functions on any connection, in or out of a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actor_scheduler import codec
from actor_scheduler.errors import InvalidArgs
from actor_scheduler.ids import format_id, parse_id
from actor_scheduler.limits import PAGE_MAX
from actor_scheduler.model import DueJob, Entry, Job, JobFilter, Page
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.times import to_datetime

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_COLUMNS: Final = (
    "seq, nonce, path, kind, state, args, key, idempotency_key, attempt, scheduled_at_us, created_at_us,"
    " started_at_us, completed_at_us, cause, error, error_code, error_data, traceback, result, result_truncated,"
    " occurrence_id, parent_id"
)
_GET: Final = ours(f"SELECT {_COLUMNS} FROM main._scheduler_jobs WHERE seq = ?")
_WINDOW: Final = ours(
    "SELECT fire_at_us, seq FROM main._scheduler_jobs WHERE queue = ? AND state = 'pending'"
    " AND (fire_at_us, seq) > (?, ?) ORDER BY fire_at_us, seq LIMIT ?",
)
_DUE_COLUMNS: Final = "seq, nonce, path, kind, args, attempt, scheduled_at_us, occurrence_id"
_DUE: Final = ours(f"SELECT {_DUE_COLUMNS} FROM main._scheduler_jobs WHERE seq = ? AND state = 'pending'")
_DUE_MANY: Final = ours(
    f"SELECT {_DUE_COLUMNS} FROM main._scheduler_jobs"
    " WHERE seq IN (SELECT value FROM json_each(?)) AND state = 'pending'",
)


def get(raw: sqlite3.Connection, job_id: str) -> Job | None:
    """Return the job with this id, or None."""
    parsed = parse_id(job_id)
    row = raw.execute(_GET, (parsed[0],)).fetchone() if parsed else None
    return _job(row) if parsed and row is not None and row[1] == parsed[1] else None


def page(raw: sqlite3.Connection, which: JobFilter, cursor: str | None, limit: int) -> Page[Job]:
    """Return up to `limit` jobs in order of acceptance, newest first, from after `cursor`.

    Raises InvalidArgs for a limit outside 1 … PAGE_MAX, or a cursor that no page gave.
    """
    if not 1 <= limit <= PAGE_MAX:
        msg = f"limit must be from 1 to {PAGE_MAX}, not {limit}"
        raise InvalidArgs(msg)
    where, values = _where(which)
    if cursor is not None:
        if not cursor.isdecimal() or len(cursor) > len(str(1 << 63)):
            msg = "cursor must be the next_cursor of an earlier page"
            raise InvalidArgs(msg)
        where.append("seq < ?")
        values.append(int(cursor))
    sql = f"SELECT {_COLUMNS} FROM main._scheduler_jobs{_clause(where)} ORDER BY seq DESC LIMIT ?"
    rows = raw.execute(ours(sql), (*values, limit + 1)).fetchall()
    more = len(rows) > limit
    return Page([_job(row) for row in rows[:limit]], str(rows[limit - 1][0]) if more else None)


def count(raw: sqlite3.Connection, which: JobFilter) -> int:
    """Return how many jobs the filter lets through."""
    where, values = _where(which)
    sql = f"SELECT count(*) FROM main._scheduler_jobs{_clause(where)}"
    found: int = raw.execute(ours(sql), values).fetchone()[0]
    return found


def window(raw: sqlite3.Connection, queue: str, after: Entry, limit: int) -> list[Entry]:
    """Return a queue's next pending entries after `after`, in order. Through the partial index: O(limit)."""
    return [Entry(*row) for row in raw.execute(_WINDOW, (queue, *after, limit))]


def due(raw: sqlite3.Connection, seq: int, now_us: int) -> DueJob | None:
    """Return what the next attempt of a pending job needs; None when it is not pending any more."""
    row = raw.execute(_DUE, (seq,)).fetchone()
    return _due_job(row, now_us) if row is not None else None


def due_many(raw: sqlite3.Connection, seqs: Sequence[int], now_us: int) -> dict[int, DueJob]:
    """Return the same for many at once, by sequence number."""
    return {row[0]: _due_job(row, now_us) for row in raw.execute(_DUE_MANY, (str(list(seqs)),))}


def _due_job(row: tuple[Any, ...], now_us: int) -> DueJob:
    seq, nonce, path, kind, args, attempt, scheduled_at_us, occurrence_id = row
    job_id = format_id(seq, nonce)
    return DueJob(seq, job_id, path, kind, args, attempt + 1, scheduled_at_us, now_us, occurrence_id or job_id)


def _where(which: JobFilter) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    if which.paths is not None:
        where.append(f"path IN ({', '.join('?' * len(which.paths))})")
        values.extend(which.paths)
    if which.state is not None:
        # Written out, not bound: only a literal lets SQLite use the partial index on the state.
        where.append(f"state = '{_STATES[which.state]}'")
    if which.key is not None:
        where.append("key = ?")
        values.append(which.key)
    return where, values


_STATES: Final = {state: state for state in ("pending", "in_progress", "success", "failed", "canceled")}


def _clause(where: list[str]) -> str:
    return f" WHERE {' AND '.join(where)}" if where else ""


def _value(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return codec.decode(data)
    except InvalidArgs:
        return None


def _job(row: tuple[Any, ...]) -> Job:
    job_id = format_id(row[0], row[1])
    args, args_error = {}, None
    try:
        args = codec.decode(row[5])
    except InvalidArgs as error:
        args_error = str(error)
    if not isinstance(args, dict):
        args, args_error = {}, "the stored arguments are not a map"
    started_at_us, completed_at_us = row[11], row[12]
    return Job(
        id=job_id,
        path=row[2],
        kind=row[3],
        state=row[4],
        args=args,
        args_error=args_error,
        key=row[6],
        idempotency_key=row[7],
        attempt=row[8],
        scheduled_at=to_datetime(row[9]),
        created_at=to_datetime(row[10]),
        started_at=to_datetime(started_at_us) if started_at_us is not None else None,
        completed_at=to_datetime(completed_at_us) if completed_at_us is not None else None,
        cause=row[13],
        error=row[14],
        error_code=row[15],
        error_data=_value(row[16]),
        traceback=row[17],
        result=_value(row[18]),
        result_truncated=bool(row[19]),
        occurrence_id=row[20] or job_id,
        parent_id=row[21],
    )
