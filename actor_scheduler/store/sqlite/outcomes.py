"""The attempts of jobs: claims and outcomes, each a conditional write on (seq, attempt, state)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.crashpoints import reach
from actor_scheduler.limits import ATTEMPTS_KEPT
from actor_scheduler.model import Again, DueJob, Entry, Failed, Outcome, Stopped, Succeeded
from actor_scheduler.retention import prune_at_us
from actor_scheduler.store.sqlite.fence import ours

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from actor_scheduler.store.base import CompleteJob
    from actor_scheduler.store.sqlite.changes import Changes

_CLAIM: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'in_progress', attempt = ?, started_at_us = ?, boot = ?"
    " WHERE seq = ? AND attempt = ? AND state = 'pending'",
)
_COMPLETE_ACTION: Final = ours(
    "UPDATE main._scheduler_jobs SET state = ?, completed_at_us = ?, prune_at_us = ?, cause = ?, error = ?,"
    " error_code = ?, error_data = ?, traceback = ?, result = ?, result_truncated = ?, deaths = 0"
    " WHERE seq = ? AND attempt = ? AND state = 'in_progress' AND boot = ?",
)
_AGAIN_ACTION: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'pending', fire_at_us = ?, cause = ?, error = ?, error_code = ?,"
    " error_data = ?, traceback = ?, boot = NULL, deaths = 0"
    " WHERE seq = ? AND attempt = ? AND state = 'in_progress' AND boot = ? RETURNING queue, started_at_us",
)
_SUCCEED_MUTATION: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'success', completed_at_us = ?, prune_at_us = ?, result = ?,"
    " result_truncated = ?, attempt = ?, started_at_us = ?, boot = ?, cause = NULL, error = NULL, error_code = NULL,"
    " error_data = NULL, traceback = NULL WHERE seq = ? AND attempt = ? AND state = 'pending'"
)
_COMPLETED: Final = ours(
    "SELECT 1 FROM main._scheduler_jobs WHERE seq = ? AND attempt = ? AND boot = ? AND completed_at_us = ?"
)
_FAIL_UNREAD: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'failed', completed_at_us = ?, prune_at_us = ?, cause = ?, error = ?,"
    " error_code = ?, error_data = ?, traceback = ?,"
    " attempt = iif(attempt BETWEEN 0 AND 1000000, attempt + 1, 1), started_at_us = ?"
    " WHERE seq = ? AND state = 'pending'"
)
_FAIL_MUTATION: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'failed', completed_at_us = ?, prune_at_us = ?, cause = ?, error = ?,"
    " error_code = ?, error_data = ?, traceback = ?, attempt = ?, started_at_us = ?, boot = ?"
    " WHERE seq = ? AND attempt = ? AND state = 'pending'",
)
_AGAIN_MUTATION: Final = ours(
    "UPDATE main._scheduler_jobs SET fire_at_us = ?, cause = ?, error = ?, error_code = ?, error_data = ?,"
    " traceback = ?, attempt = ?, started_at_us = ?, boot = ?, deaths = 0"
    " WHERE seq = ? AND attempt = ? AND state = 'pending' RETURNING queue",
)
_RECORD_ATTEMPT: Final = ours(
    "INSERT OR REPLACE INTO main._scheduler_attempts (job_seq, attempt, boot, started_at_us, ended_at_us, cause, error)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_FORGET_ATTEMPT: Final = ours("DELETE FROM main._scheduler_attempts WHERE job_seq = ? AND attempt = ?")


class Outcomes:
    """Writes how attempts begin and end."""

    def __init__(
        self, raw: sqlite3.Connection, boot: int, changes: Changes, keep_us: Callable[[str], int | None]
    ) -> None:
        self._raw = raw
        self._boot = boot
        self._changes = changes
        self._keep_us = keep_us

    def claim(self, due: Iterable[DueJob]) -> bool:
        """Mark attempts as started by this boot, and return whether every claim took hold."""
        reach("claim.before")
        rows = [(job.attempt, job.dispatched_at_us, self._boot, job.seq, job.attempt - 1) for job in due]
        changed = self._raw.executemany(_CLAIM, rows).rowcount
        reach("claim.written")
        return changed == len(rows)

    # ------------------------------------------------------------ actions

    def complete_actions(self, ended: Sequence[CompleteJob]) -> list[bool]:
        """Record how claimed attempts ended, and return for each whether its claim still stood."""
        reach("complete.before")
        rows = [self._row(unit, unit.outcome) for unit in ended if not isinstance(unit.outcome, Again)]
        if len(rows) == len(ended) == self._raw.executemany(_COMPLETE_ACTION, rows).rowcount:
            self._changes.effects.ended.extend([unit.job.seq for unit in ended])
            stood = [True] * len(rows)
        else:
            stood = [self._complete_action(unit) for unit in ended]
        reach("complete.written")
        return stood

    def _row(self, unit: CompleteJob, outcome: Succeeded | Failed | Stopped) -> tuple[Any, ...]:
        job, at_us = unit.job, unit.completed_at_us
        return *_ended(outcome, at_us, prune_at_us(at_us, self._keep_us(job.path))), job.seq, job.attempt, self._boot

    def _complete_action(self, unit: CompleteJob) -> bool:
        """Record one of several; what was written for it already stands."""
        job, outcome = unit.job, unit.outcome
        if isinstance(outcome, Again):
            if not self._changes.is_canceling(job.seq):
                return self._again(unit, outcome)
            outcome = Stopped(outcome.failure)  # it was let finish, and no other attempt follows
        stood = self._raw.execute(_COMPLETE_ACTION, self._row(unit, outcome)).rowcount == 1
        if not stood:  # just written, or by a commit of unknown outcome
            mark = (job.seq, job.attempt, self._boot, unit.completed_at_us)
            stood = self._raw.execute(_COMPLETED, mark).fetchone() is not None
        if stood:
            self._changes.effects.ended.append(job.seq)
        return stood

    def _again(self, unit: CompleteJob, outcome: Again) -> bool:
        reach("retry.before")
        failure, fire_at_us = outcome.failure, unit.completed_at_us + outcome.delay_us
        seq, attempt = unit.job.seq, unit.job.attempt
        row = self._raw.execute(_AGAIN_ACTION, (fire_at_us, *_failure(failure), seq, attempt, self._boot)).fetchone()
        if row is None:  # after a commit of unknown outcome it may stand there already
            return self._raw.execute(_RETRIED, (seq, attempt, fire_at_us)).fetchone() is not None
        self.record_failure(seq, attempt, row[1], unit.completed_at_us, failure)
        self._changes.waits(row[0], Entry(fire_at_us, seq))
        reach("retry.written")
        return True

    # ------------------------------------------------------------ mutations

    def complete_mutation(self, job: DueJob, outcome: Outcome, at_us: int) -> bool:
        """Record how a mutation ended, in the transaction of its writes, and return whether it was still pending."""
        started = (job.attempt, job.dispatched_at_us, self._boot, job.seq, job.attempt - 1)
        if isinstance(outcome, Again):
            return self._mutation_again(job, outcome, at_us, started)
        prune_us = prune_at_us(at_us, self._keep_us(job.path))
        if isinstance(outcome, Succeeded):
            values: tuple[Any, ...] = (at_us, prune_us, outcome.result, int(outcome.truncated), *started)
            stood = self._raw.execute(_SUCCEED_MUTATION, values).rowcount == 1
        else:
            assert isinstance(outcome, Failed)
            values = (at_us, prune_us, *_failure(outcome), *started)
            stood = self._raw.execute(_FAIL_MUTATION, values).rowcount == 1
        if stood:
            self._changes.effects.ended.append(job.seq)
        reach("mutation.completion_written")
        return stood

    def _mutation_again(self, job: DueJob, outcome: Again, at_us: int, started: tuple[int, ...]) -> bool:
        reach("retry.before")
        fire_at_us = at_us + outcome.delay_us
        row = self._raw.execute(_AGAIN_MUTATION, (fire_at_us, *_failure(outcome.failure), *started)).fetchone()
        if row is None:
            return False
        self.record_failure(job.seq, job.attempt, job.dispatched_at_us, at_us, outcome.failure)
        self._changes.waits(row[0], Entry(fire_at_us, job.seq))
        reach("retry.written")
        return True

    def fail_pending(self, seq: int, failure: Failed, now_us: int) -> None:
        """Record that a pending job failed, without looking at what stands in its row: it may be damaged."""
        values = (now_us, prune_at_us(now_us, self._keep_us("")), *_failure(failure), now_us, seq)
        if self._raw.execute(_FAIL_UNREAD, values).rowcount:
            self._changes.effects.ended.append(seq)

    # ------------------------------------------------------------ attempts on record

    def record_failure(self, seq: int, attempt: int, started_at_us: int, at_us: int, failure: Failed) -> None:
        """Keep a failed attempt that is followed by another; of many, the newest ATTEMPTS_KEPT."""
        values = (seq, attempt, self._boot, started_at_us, at_us, failure.cause, failure.error)
        self._raw.execute(_RECORD_ATTEMPT, values)
        if attempt > ATTEMPTS_KEPT:
            self._raw.execute(_FORGET_ATTEMPT, (seq, attempt - ATTEMPTS_KEPT))


_RETRIED: Final = ours(
    "SELECT 1 FROM main._scheduler_jobs WHERE seq = ? AND attempt = ? AND state = 'pending' AND fire_at_us = ?"
)


def _failure(failure: Failed) -> tuple[Any, ...]:
    return failure.cause, failure.error, failure.code, failure.data, failure.traceback


def _ended(outcome: Succeeded | Failed | Stopped, at_us: int, prune_us: int | None) -> tuple[Any, ...]:
    match outcome:
        case Succeeded(result, truncated):
            return ("success", at_us, prune_us, None, None, None, None, None, result, int(truncated))
        case Failed():
            return ("failed", at_us, prune_us, *_failure(outcome), None, 0)
        case Stopped(failure):
            why = _failure(failure) if failure is not None else (None, None, None, None, None)
            return ("canceled", at_us, prune_us, *why, None, 0)
