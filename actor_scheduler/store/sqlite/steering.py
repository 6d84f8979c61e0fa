"""Steering jobs that are in the file: cancel, retry, drop, many at once, and forgetting what was kept long enough."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import KeyConflict
from actor_scheduler.ids import parse_id
from actor_scheduler.limits import ATTEMPTS_KEPT
from actor_scheduler.model import TERMINAL, Entry, Kind, State
from actor_scheduler.queues import PARKED
from actor_scheduler.retention import prune_at_us
from actor_scheduler.store.base import (
    CancelJob,
    CancelJobs,
    DropJob,
    DropJobs,
    PromoteJob,
    Prune,
    Pruned,
    RetryJob,
    RetryJobs,
    Set,
    Swept,
)
from actor_scheduler.store.sqlite import job_rows, skips
from actor_scheduler.store.sqlite.fence import ours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actor_scheduler.model import JobFilter
    from actor_scheduler.store.base import Host
    from actor_scheduler.store.sqlite.changes import Changes
    from actor_scheduler.store.sqlite.lanes import Lanes

_BY_KEY: Final = ours(
    "SELECT seq, nonce, path, state, queue, fire_at_us FROM main._scheduler_jobs"
    " WHERE key = ? AND state IN ('pending', 'in_progress')",
)
_BY_SEQ: Final = ours("SELECT seq, nonce, path, state, queue, fire_at_us FROM main._scheduler_jobs WHERE seq = ?")
_CANCEL: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'canceled', completed_at_us = ?, prune_at_us = ?"
    " WHERE seq = ? AND state = 'pending'",
)
_STOP: Final = ours("UPDATE main._scheduler_jobs SET canceling = 1 WHERE seq = ? AND state = 'in_progress'")
_ROUTE: Final = ours(
    "SELECT path, kind, priority, lane, attempt FROM main._scheduler_jobs WHERE seq = ? AND state = 'failed'"
)
_RETRY: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'pending', fire_at_us = ?, queue = ?, completed_at_us = NULL,"
    " prune_at_us = NULL, started_at_us = NULL, cause = NULL, error = NULL, error_code = NULL, error_data = NULL,"
    " traceback = NULL, deaths = 0, canceling = 0 WHERE seq = ? AND state = 'failed'",
)
_PROMOTE: Final = ours(
    "UPDATE main._scheduler_jobs SET fire_at_us = ? WHERE seq = ? AND state = 'pending' RETURNING lane"
)
_WAITING: Final = ours(
    "SELECT seq, path, queue, fire_at_us FROM main._scheduler_jobs WHERE seq IN (SELECT value FROM json_each(?))"
    " AND state = 'pending'"
)
_RECORD: Final = ours(
    "INSERT OR REPLACE INTO main._scheduler_attempts (job_seq, attempt, boot, started_at_us, ended_at_us, cause, error)"
    " SELECT seq, attempt, coalesce(boot, 0), coalesce(started_at_us, completed_at_us, 0), completed_at_us, cause,"
    " error FROM main._scheduler_jobs WHERE seq = ? AND state = 'failed'"
)
_FORGET_OLD: Final = ours("DELETE FROM main._scheduler_attempts WHERE job_seq = ? AND attempt <= ?")
_FORGET_LAST: Final = ours("DELETE FROM main._scheduler_attempts WHERE job_seq = ? AND attempt = ?")
_DROP: Final = ours(
    "DELETE FROM main._scheduler_jobs WHERE seq IN (SELECT value FROM json_each(?))"
    " AND state IN ('success', 'failed', 'canceled')"
)
_DROP_ATTEMPTS: Final = ours("DELETE FROM main._scheduler_attempts WHERE job_seq IN (SELECT value FROM json_each(?))")
_OLD: Final = ours(
    "SELECT seq FROM main._scheduler_jobs WHERE prune_at_us <= ? AND prune_at_us IS NOT NULL"
    " AND state IN ('success', 'failed', 'canceled') ORDER BY prune_at_us LIMIT ?"
)
_OLDEST: Final = ours(
    "SELECT prune_at_us FROM main._scheduler_jobs WHERE prune_at_us IS NOT NULL"
    " AND state IN ('success', 'failed', 'canceled') ORDER BY prune_at_us LIMIT 1"
)
_SET: Final = ours("INSERT OR REPLACE INTO main._scheduler_meta (name, value) VALUES (?, ?)")
_UNSET: Final = ours("DELETE FROM main._scheduler_meta WHERE name = ?")
SETTING: Final = "set:"  # before the name of a setting, among the names of the meta table


_Row: TypeAlias = "tuple[int, int, str, State, str, int]"  # seq, nonce, path, state, queue, fire_at_us
Steer: TypeAlias = CancelJob | RetryJob | PromoteJob | DropJob | CancelJobs | RetryJobs | DropJobs | Prune | Set


class Steering:
    """Writes what callers and operators want of jobs that exist."""

    def __init__(self, raw: sqlite3.Connection, changes: Changes, lanes: Lanes, host: Host) -> None:
        self._raw = raw
        self._changes = changes
        self._lanes = lanes
        self._host = host

    def apply(self, unit: Steer, now_us: int) -> object:
        """Do what a caller or an operator wants of jobs that exist, and return the answer. Raises KeyConflict."""
        match unit:
            case CancelJob():
                return self.cancel(unit, now_us)
            case RetryJob(job_id, at_us):
                return self.retry(job_id, at_us)
            case PromoteJob(job_id):
                return self.promote(job_id, now_us)
            case DropJob(job_id):
                return self.drop(job_id)
            case CancelJobs(which, cursor, limit):
                return self.cancel_many(which, cursor, limit, now_us)
            case RetryJobs(which, cursor, limit, at_us):
                return self.retry_many(which, cursor, limit, at_us)
            case DropJobs(which, cursor, limit):
                return self.drop_many(which, cursor, limit)
            case Prune(at_us, limit):
                return self.prune(at_us, limit)
            case Set(name, value):
                self.set(name, value)
                return None

    # ------------------------------------------------------------ one job

    def cancel(self, which: CancelJob, now_us: int, running_seq: int | None = None) -> bool:
        """Cancel a pending job and return whether it will never start; mark one that runs.

        `running_seq` is the mutation that asks: it may name itself, and no harm is done.
        """
        reach("cancel.before")
        row = self._find(which)
        if row is None:
            return False
        seq, _, path, state, queue, fire_at_us = row
        if seq == running_seq:
            return False
        if state == "pending":
            self.cancel_pending(seq, path, queue, fire_at_us, now_us)
            reach("cancel.after")
            return True
        if state == "in_progress":
            self._raw.execute(_STOP, (seq,))
            self._changes.effects.stopping.append((seq, which.running))
            reach("cancel.after")
            return which.running
        return bool(state == "canceled")

    def _find(self, which: CancelJob) -> _Row | None:
        if which.key is not None:
            found: _Row | None = self._first(_BY_KEY, which.key)
            return found
        return self._by_id(which.job_id or "")

    def _by_id(self, job_id: str) -> _Row | None:
        parsed = parse_id(job_id)
        row: _Row | None = self._first(_BY_SEQ, parsed[0]) if parsed else None
        return row if parsed is not None and row is not None and row[1] == parsed[1] else None

    def _first(self, sql: str, value: str | int) -> Any:
        """Return the row of a job, or None; one that is damaged can be steered too."""
        rows = job_rows.read(self._raw, sql, (value,))
        return rows[0] if rows else None

    def cancel_pending(self, seq: int, path: str, queue: str, fire_at_us: int, now_us: int) -> None:
        """Cancel a job that is pending."""
        self._raw.execute(_CANCEL, (now_us, prune_at_us(now_us, self._host.keep_us(path)), seq))
        if not queue.startswith(PARKED):
            self._changes.leaves(queue, Entry(fire_at_us, seq))
        self._changes.canceled.add(seq)
        self._changes.effects.ended.append(seq)

    def retry(self, job_id: str, now_us: int) -> bool:
        """Make a failed job pending again, due now, and return whether it was failed. Raises KeyConflict."""
        row = self._by_id(job_id)
        return row is not None and self._retry(row[0], now_us)

    def _retry(self, seq: int, now_us: int) -> bool:
        row: tuple[str, Kind, int, str | None, int] | None = self._first(_ROUTE, seq)
        if row is None:
            return False
        path, kind, priority, lane, attempt = row
        queue = self._host.routing.queue(path, kind, priority)  # its function may have got other limits since
        self._raw.execute(_RECORD, (seq,))
        try:
            self._raw.execute(_RETRY, (now_us, queue if lane is None else PARKED + queue, seq))
        except sqlite3.IntegrityError as error:
            self._raw.execute(_FORGET_LAST, (seq, attempt))
            msg = "another unfinished job has taken this job's key"
            raise KeyConflict(msg) from error
        self._raw.execute(_FORGET_OLD, (seq, attempt - ATTEMPTS_KEPT))
        if lane is None:
            self._changes.waits(queue, Entry(now_us, seq))
        else:
            self._lanes.used = True
            self._changes.lanes.add(lane)
        return True

    def promote(self, job_id: str, now_us: int, running_seq: int | None = None) -> bool:
        """Let a pending job be due now, and return whether it was pending; one that is due keeps its place.

        `running_seq` is the mutation that asks: it has started.
        """
        row = self._by_id(job_id)
        if row is None or row[3] != "pending" or row[0] == running_seq:
            return False
        seq, _, _, _, queue, fire_at_us = row
        if fire_at_us <= now_us:
            return True
        (lane,) = self._raw.execute(_PROMOTE, (now_us, seq)).fetchone()
        if not queue.startswith(PARKED):
            self._changes.leaves(queue, Entry(fire_at_us, seq))
            self._changes.waits(queue, Entry(now_us, seq))
        if lane is not None:  # it may be the head now
            self._changes.lanes.add(lane)
        return True

    def drop(self, job_id: str) -> bool:
        """Forget a job that has ended, and return whether it had."""
        row = self._by_id(job_id)
        dropped = row is not None and row[3] in TERMINAL and self._drop([row[0]]) == 1
        reach("drop.written")
        return dropped

    def _drop(self, seqs: Sequence[int]) -> int:
        listed = str(list(seqs))
        self._raw.execute(_DROP_ATTEMPTS, (listed,))
        return self._raw.execute(_DROP, (listed,)).rowcount

    # ------------------------------------------------------------ many jobs

    def cancel_many(
        self, which: JobFilter, cursor: str | None, limit: int, now_us: int, running_seq: int | None = None
    ) -> Swept:
        """Cancel the pending among one page of jobs; `running_seq`, the mutation that asks, has started."""
        reach("cancel.before")
        seqs, next_cursor = job_rows.seqs(self._raw, which, ("pending",), cursor, limit)
        count = 0
        for seq, path, queue, fire_at_us in job_rows.read(self._raw, _WAITING, (str(seqs),)):
            if seq != running_seq:
                self.cancel_pending(seq, path, queue, fire_at_us, now_us)
                count += 1
        reach("cancel.after")
        return Swept(count, next_cursor)

    def retry_many(self, which: JobFilter, cursor: str | None, limit: int, now_us: int) -> Swept:
        """Make the failed among one page of jobs pending again; one whose key is taken meanwhile stays as it is."""
        seqs, next_cursor = job_rows.seqs(self._raw, which, ("failed",), cursor, limit)
        return Swept(sum(self._retried(seq, now_us) for seq in seqs), next_cursor)

    def _retried(self, seq: int, now_us: int) -> bool:
        try:
            return self._retry(seq, now_us)
        except KeyConflict:
            return False

    def drop_many(self, which: JobFilter, cursor: str | None, limit: int) -> Swept:
        """Forget those of one page of jobs that have ended."""
        seqs, next_cursor = job_rows.seqs(self._raw, which, ("success", "failed", "canceled"), cursor, limit)
        return Swept(self._drop(seqs), next_cursor)

    def prune(self, now_us: int, limit: int) -> Pruned:
        """Forget jobs that were kept long enough, the longest first, at most `limit`."""
        reach("prune.before")
        seqs = [seq for (seq,) in self._raw.execute(_OLD, (now_us, limit))]
        count = self._drop(seqs) if seqs else 0
        count += skips.prune(self._raw, now_us, limit - count)
        reach("prune.written")
        return Pruned(count, oldest(self._raw))

    # ------------------------------------------------------------ settings

    def set(self, name: str, value: str | int | None) -> None:
        """Keep a setting of an operator's; None takes it away."""
        if value is None:
            self._raw.execute(_UNSET, (SETTING + name,))
        else:
            self._raw.execute(_SET, (SETTING + name, value))
        reach("setting.written")


def oldest(raw: sqlite3.Connection) -> int | None:
    """Return when the first ended job, or record of a cron, can be forgotten."""
    row = raw.execute(_OLDEST).fetchone()
    moments = (row[0] if row is not None else None, skips.prune_due_us(raw))
    return min((moment for moment in moments if moment is not None), default=None)
