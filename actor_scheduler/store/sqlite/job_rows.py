"""Reading jobs: one, a page, a count, a window. Plain functions on any connection, in or out of a turn."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from actor_scheduler import codec
from actor_scheduler.errors import InvalidArgs
from actor_scheduler.ids import format_id, parse_id
from actor_scheduler.limits import ATTEMPTS_MAX, LOOK_MAX, PAGE_MAX
from actor_scheduler.model import Counted, DueJob, Entry, FailedAttempt, Job, JobFilter, Page, State
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.times import to_datetime

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS: Final = (
    "seq, nonce, path, kind, state, args, key, idempotency_key, attempt, scheduled_at_us, created_at_us,"
    " started_at_us, completed_at_us, cause, error, error_code, error_data, traceback, result, result_truncated,"
    " occurrence_id, parent_id, fire_at_us, lane, priority, cron"
)
_GET: Final = ours(f"SELECT {_COLUMNS} FROM main._scheduler_jobs WHERE seq = ?")
_WINDOW: Final = ours(
    "SELECT fire_at_us, seq FROM main._scheduler_jobs WHERE queue = ? AND state = 'pending'"
    " AND (fire_at_us, seq) > (?, ?) ORDER BY fire_at_us, seq LIMIT ?",
)
_DUE_COLUMNS: Final = (
    "seq, nonce, path, kind, args, attempt, scheduled_at_us, occurrence_id, timeout_us, retry, chain, cron, tick_us,"
    " cron_run"
)
_DUE_MANY: Final = ours(
    f"SELECT {_DUE_COLUMNS} FROM main._scheduler_jobs"
    " WHERE seq IN (SELECT value FROM json_each(?)) AND state = 'pending' AND queue < '~'",
)
_LEFT: Final = ours(
    f"SELECT {_DUE_COLUMNS}, started_at_us, deaths, canceling, queue FROM main._scheduler_jobs"
    " WHERE state = 'in_progress' AND boot <> ?"
)
_ATTEMPTS: Final = ours(
    "SELECT attempt, started_at_us, ended_at_us, cause, error FROM main._scheduler_attempts WHERE job_seq = ?"
    " ORDER BY attempt"
)
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def get(raw: sqlite3.Connection, job_id: str) -> Job | None:
    """Return the job with this id, or None."""
    parsed = parse_id(job_id)
    rows = read(raw, _GET, (parsed[0],)) if parsed else []
    return _job(rows[0]) if parsed and rows and rows[0][1] == parsed[1] else None


def page(raw: sqlite3.Connection, which: JobFilter, cursor: str | None, limit: int) -> Page[Job]:
    """Return up to `limit` jobs in order of acceptance, newest first, from after `cursor`.

    With `text` it looks at LOOK_MAX rows at most, and may be short though it is not the last.  Raises InvalidArgs for a
    limit outside 1 … PAGE_MAX, or a cursor that no page gave.
    """
    if type(limit) is not int or not 1 <= limit <= PAGE_MAX:
        msg = f"limit must be from 1 to {PAGE_MAX}, not {limit!r:.40}"
        raise InvalidArgs(msg)
    where, values = _where(which)
    start = _start(which, cursor)
    if start is not None:
        where.append("seq < ?")
        values.append(start)
    table, floor = "main._scheduler_jobs", None
    if which.text is not None:
        table, floor = _source(which.state), _floor(raw, which.state, start)
        where.append("seq >= ?")
        values.append(floor if floor is not None else 0)
    sql = f"SELECT {_COLUMNS} FROM {table}{_clause(where)} ORDER BY seq DESC LIMIT ?"
    rows = read(raw, ours(sql), (*values, limit + 1))
    end = rows[limit - 1][0] if len(rows) > limit else floor
    return Page([_job(row) for row in rows[:limit]], str(end) if end is not None else None)


def _source(state: State | None) -> str:
    """Return the table with the index by which a bounded look goes: newest first, through nothing else."""
    return f"main._scheduler_jobs {_BY_SEQ.get(state, 'NOT INDEXED')}"


def _floor(raw: sqlite3.Connection, state: State | None, start: int | None) -> int | None:
    """Return the number of the last of the next LOOK_MAX jobs, newest first; None when there are not as many.

    Of the jobs in a state where an index has these in order, else of all.
    """
    where = _is(state) if state in _BY_SEQ else []
    if start is not None:
        where.append("seq < ?")
    sql = f"SELECT seq FROM {_source(state)}{_clause(where)} ORDER BY seq DESC LIMIT 1 OFFSET ?"
    values = (LOOK_MAX - 1,) if start is None else (start, LOOK_MAX - 1)
    row = raw.execute(ours(sql), values).fetchone()
    return row[0] if row is not None else None


def _start(which: JobFilter, cursor: object) -> int | None:
    """Return the number before which a look begins, newest first; None for the newest job of all."""
    bounds = [] if which.until is None else [which.until.seq + 1]
    if cursor is not None:
        bounds.append(_position(cursor))
    return min(bounds, default=None)


def _position(cursor: object) -> int:
    if not isinstance(cursor, str) or not cursor.isdecimal() or len(cursor) > len(str(1 << 63)):
        msg = "cursor must be the next_cursor of an earlier page"
        raise InvalidArgs(msg)
    return int(cursor)


def count(raw: sqlite3.Connection, which: JobFilter) -> int:
    """Return how many jobs the filter lets through."""
    where, values = _where(which)
    if which.until is not None:
        where.append("+seq <= ?")  # the sign keeps SQLite from going through all jobs by their numbers
        values.append(which.until.seq)
    sql = f"SELECT count(*) FROM main._scheduler_jobs{_clause(where)}"
    found: int = raw.execute(ours(sql), values).fetchone()[0]
    return found


def count_up_to(raw: sqlite3.Connection, which: JobFilter, rows: int) -> Counted:
    """Return how many of the first `rows` jobs the filter lets through, and whether those were all.

    Of the jobs in a state where an index has these, else of all, newest first.
    """
    state = which.state
    indexed = state == "pending" or state in _BY_SEQ
    index = "INDEXED BY _scheduler_jobs_due" if state == "pending" else _BY_SEQ.get(state, "NOT INDEXED")
    rest, values = _where(replace(which, state=None) if indexed else which)
    among, bounds = _is(state) if indexed else [], []
    if which.until is not None:
        among.append("seq <= ?")
        bounds.append(which.until.seq)
    first = f"FROM main._scheduler_jobs {index}{_clause(among)}"
    if state != "pending":
        first += " ORDER BY seq DESC"
    hits = f"SELECT count(*), total(hit) FROM (SELECT {' AND '.join(rest) or '1'} AS hit {first} LIMIT ?)"
    looked, count = raw.execute(ours(hits), (*values, *bounds, rows)).fetchone()
    beyond = ours(f"SELECT 1 {first} LIMIT 1 OFFSET ?")
    more = looked == rows and raw.execute(beyond, (*bounds, rows)).fetchone() is not None
    return Counted(int(count), complete=not more)


def window(raw: sqlite3.Connection, queue: str, after: Entry, limit: int) -> list[Entry]:
    """Return a queue's next pending entries after `after`, in order. Through the partial index: O(limit)."""
    return [Entry(*row) for row in raw.execute(_WINDOW, (queue, *after, limit))]


def due_many(raw: sqlite3.Connection, seqs: Sequence[int], now_us: int) -> dict[int, DueJob]:
    """Return what the next attempts of these jobs need, by sequence number; without those not eligible any more."""
    return {row[0]: _due_job(row, now_us) for row in raw.execute(_DUE_MANY, (str(list(seqs)),))}


def due_if_readable(raw: sqlite3.Connection, seq: int, now_us: int) -> DueJob | None:
    """Return what the next attempt of one job needs; None when it is not eligible, or its row is damaged."""
    try:
        jobs = [_due_job(row, now_us) for row in read(raw, _DUE_MANY, (f"[{seq}]",))]
    except (TypeError, ValueError):
        return None
    return jobs[0] if jobs and 0 < jobs[0].attempt <= ATTEMPTS_MAX + 1 else None


def _due_job(row: tuple[Any, ...], now_us: int) -> DueJob:
    seq, nonce, path, kind, args, attempt, scheduled_at_us, occurrence_id, *rest = row
    job_id = format_id(seq, nonce)
    return DueJob(
        seq, job_id, path, kind, args, attempt + 1, scheduled_at_us, now_us, occurrence_id or job_id, *rest,
    )  # fmt: skip


class Left(NamedTuple):
    """An attempt that the process of another boot left behind."""

    job: DueJob
    started_at_us: int
    deaths: int
    canceling: bool
    queue: str


def left_behind(raw: sqlite3.Connection, boot: int) -> list[Left]:
    """Return the attempts that are in progress under another boot than this one."""
    left = []
    for row in read(raw, _LEFT, (boot,)):
        *columns, started_at_us, deaths, canceling, queue = row
        job = _due_job(tuple(columns), started_at_us or 0)
        left.append(Left(job._replace(attempt=job.attempt - 1), started_at_us or 0, deaths, bool(canceling), queue))
    return left


def failed_attempts(raw: sqlite3.Connection, job_id: str) -> list[FailedAttempt]:
    """Return the attempts of a job that failed and were followed by another, the oldest first."""
    job = get(raw, job_id)
    rows = read(raw, _ATTEMPTS, (int(job_id[:16], 16),)) if job is not None else []
    return [FailedAttempt(row[0], moment(row[1]), moment(row[2]), row[3], row[4]) for row in rows]


def seqs(
    raw: sqlite3.Connection, which: JobFilter, states: Sequence[State], cursor: str | None, limit: int
) -> tuple[list[int], str | None]:
    """Return one page of the numbers of matching jobs that are in one of these states, and the cursor of the next.

    It looks at LOOK_MAX rows at most: the page may be short, or empty, though it is not the last.
    """
    wanted = states if which.state is None else [state for state in states if state == which.state]
    if not wanted:
        return [], None
    alone = wanted[0] if len(wanted) == 1 else None
    start = _start(which, cursor)
    floor = _floor(raw, alone, start)
    found: list[int] = []
    for state in wanted:
        where, values = _where(replace(which, state=state))
        where.append("seq BETWEEN ? AND ?")
        values += (floor if floor is not None else 0, start - 1 if start is not None else _LAST_SEQ)
        sql = f"SELECT seq FROM {_source(state)}{_clause(where)} ORDER BY seq DESC LIMIT ?"
        found.extend(seq for (seq,) in raw.execute(ours(sql), (*values, limit + 1)))
    found.sort(reverse=True)
    end = found[limit - 1] if len(found) > limit else floor
    return found[:limit], str(end) if end is not None else None


def _where(which: JobFilter) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    if which.paths is not None:
        where.append(f"path IN ({', '.join('?' * len(which.paths))})")
        values.extend(which.paths)
    where += _is(which.state)
    for column, value in (("key", which.key), ("cause", which.cause), ("lane", which.lane), ("cron", which.cron)):
        if value is not None:
            where.append(f"{column} = ?")
            values.append(value)
    if which.until is not None and which.state not in _UNENDED:
        where.append("(completed_at_us IS NULL OR completed_at_us <= ?)")
        values.append(which.until.at_us)
    if which.text is not None:
        # Not LIKE: nothing in a text has a meaning here. Both `lower` know the letters of ASCII only.
        text = which.text.translate(_LOWER)
        searched = _SEARCHED if text.strip(_HEX) else (_ID, *_SEARCHED)
        where.append(f"({' OR '.join([f'instr(lower({column}), ?)' for column in searched])} OR instr(args, ?))")
        values += [text] * len(searched)
        values.append(which.text.encode())
    return where, values


_SEARCHED: Final = ("path", "key", "idempotency_key", "lane", "cron", "error")
_ID: Final = "printf('%016x%016x', seq, nonce)"
_HEX: Final = "0123456789abcdef"
_LOWER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_LAST_SEQ: Final = (1 << 63) - 1
_BY_SEQ: Final[dict[State | None, str]] = {  # the states whose jobs an index has in order of their numbers
    "failed": "INDEXED BY _scheduler_jobs_failed",
    "in_progress": "INDEXED BY _scheduler_jobs_running",
}
_UNENDED: Final = ("pending", "in_progress")
_STATES: Final = {state: state for state in ("pending", "in_progress", "success", "failed", "canceled")}


def _is(state: State | None) -> list[str]:
    """Return the condition that a job is in a state."""
    # Written out, not bound: only a literal lets SQLite use the partial index on the state.
    return [] if state is None else [f"state = '{_STATES[state]}'"]


def _clause(where: list[str]) -> str:
    return f" WHERE {' AND '.join(where)}" if where else ""


def _value(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return codec.decode(data)
    except InvalidArgs:
        return None


def moment(moment_us: int) -> datetime:
    """Return a moment of a row; one that was damaged beyond every calendar becomes the nearest there is."""
    try:
        return to_datetime(moment_us)
    except OverflowError:
        return _LAST if moment_us > 0 else _FIRST


def read(raw: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, also when a text in them is damaged."""
    try:
        return raw.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    raw.text_factory = _lossy
    try:
        return raw.execute(sql, values).fetchall()
    finally:
        raw.text_factory = str


def _lossy(text: bytes) -> str:
    return text.decode("utf-8", "replace")


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
        scheduled_at=moment(row[9]),
        created_at=moment(row[10]),
        started_at=moment(started_at_us) if started_at_us is not None else None,
        completed_at=moment(completed_at_us) if completed_at_us is not None else None,
        cause=row[13],
        error=row[14],
        error_code=row[15],
        error_data=_value(row[16]),
        traceback=row[17],
        result=_value(row[18]),
        result_truncated=bool(row[19]),
        occurrence_id=row[20] or job_id,
        parent_id=row[21],
        fire_at=moment(row[22]),
        lane=row[23],
        priority=row[24],
        cron=row[25],
    )
