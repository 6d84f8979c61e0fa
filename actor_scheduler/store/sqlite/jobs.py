"""The statements on the jobs table. Those of `JobWriter` run inside the turn's transaction, on the writer's thread."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from actor_scheduler import codec
from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import KeyConflict
from actor_scheduler.ids import NonceSource, format_id, parse_id
from actor_scheduler.model import DueJob, Entry, Failed, NewJob, Outcome, Succeeded
from actor_scheduler.store.base import CancelJob, CompleteJob, Effects
from actor_scheduler.store.sqlite.fence import ours

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Sequence numbers are reserved in blocks, so that a rolled-back or pruned one is never given out again, at the price
# of one small write per block instead of one per job.
SEQ_BLOCK: Final = 65_536
_SEQ_LOW: Final = SEQ_BLOCK // 2  # left over at the start of a turn: more than bodies can schedule in its 30 ms

_INSERT = ours(
    "INSERT INTO main._scheduler_jobs (seq, nonce, path, kind, queue, fire_at_us, scheduled_at_us, created_at_us, args,"
    " key, idempotency_key, parent_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
_BY_IDEMPOTENCY_KEY = ours(
    "SELECT seq, nonce, path, args, state, result, result_truncated FROM main._scheduler_jobs"
    " WHERE idempotency_key = ?",
)
_BY_KEY = ours(
    "SELECT seq, nonce, state, queue, fire_at_us FROM main._scheduler_jobs"
    " WHERE key = ? AND state IN ('pending', 'in_progress')",
)
_HAND_ON = ours("UPDATE main._scheduler_jobs SET key = NULL WHERE seq = ?")
_BY_SEQ = ours("SELECT nonce, state, queue, fire_at_us FROM main._scheduler_jobs WHERE seq = ?")
_CANCEL = ours(
    "UPDATE main._scheduler_jobs SET state = 'canceled', completed_at_us = ? WHERE seq = ? AND state = 'pending'",
)
_RETRY = ours(
    "UPDATE main._scheduler_jobs SET state = 'pending', fire_at_us = ?, completed_at_us = NULL, started_at_us = NULL,"
    " cause = NULL, error = NULL, error_code = NULL, error_data = NULL, traceback = NULL, deaths = 0"
    " WHERE seq = ? AND state = 'failed'",
)
_CLAIM = ours(
    "UPDATE main._scheduler_jobs SET state = 'in_progress', attempt = ?, started_at_us = ?, boot = ?"
    " WHERE seq = ? AND attempt = ? AND state = 'pending'",
)
_COMPLETE_ACTION = ours(
    "UPDATE main._scheduler_jobs SET state = ?, completed_at_us = ?, cause = ?, error = ?, error_code = ?,"
    " error_data = ?, traceback = ?, result = ?, result_truncated = ?"
    " WHERE seq = ? AND attempt = ? AND state = 'in_progress' AND boot = ?",
)
_SUCCEED_MUTATION = ours(
    "UPDATE main._scheduler_jobs SET state = 'success', completed_at_us = ?, result = ?, result_truncated = ?,"
    " attempt = ?, started_at_us = ?, boot = ? WHERE seq = ? AND attempt = ? AND state = 'pending'"
)
_COMPLETED = ours(
    "SELECT 1 FROM main._scheduler_jobs WHERE seq = ? AND attempt = ? AND boot = ? AND completed_at_us = ?"
)
_FAIL_UNREAD = ours(
    "UPDATE main._scheduler_jobs SET state = 'failed', completed_at_us = ?, cause = ?, error = ?, error_code = ?,"
    " error_data = ?, traceback = ?, attempt = iif(attempt BETWEEN 0 AND 1000000, attempt + 1, 1), started_at_us = ?"
    " WHERE seq = ? AND state = 'pending'"
)
_COMPLETE_MUTATION = ours(
    "UPDATE main._scheduler_jobs SET state = ?, completed_at_us = ?, cause = ?, error = ?, error_code = ?,"
    " error_data = ?, traceback = ?, result = ?, result_truncated = ?, attempt = ?, started_at_us = ?, boot = ?"
    " WHERE seq = ? AND attempt = ? AND state = 'pending'",
)
_RECORD_LIVE = ours(
    "INSERT INTO main._scheduler_jobs (seq, nonce, path, kind, queue, state, fire_at_us, scheduled_at_us,"
    " created_at_us, started_at_us, completed_at_us, attempt, args, idempotency_key, result, result_truncated)"
    " VALUES (?, ?, ?, 'mutation', 'mutation', 'success', ?, ?, ?, ?, ?, 1, ?, ?, ?, ?)",
)
_RESERVE = ours("UPDATE main._scheduler_meta SET value = ? WHERE name = 'seq_reserved'")


class Mark(NamedTuple):
    """Where a savepoint began, in the lists that SQLite does not roll back for us."""

    pending: int
    gone: int
    ended: int


class JobWriter:
    """Writes jobs inside a turn, and notes what that changes for the index.

    Invariant: `effects` describes exactly what the open transaction has done to the set of pending jobs.
    """

    def __init__(self, raw: sqlite3.Connection, boot: int, nonces: NonceSource) -> None:
        self._raw = raw
        self._boot = boot
        self._nonces = nonces
        self.effects = Effects()
        self.canceled: set[int] = set()  # of `effects.gone`, for a quick look
        self.next_seq = 0
        self._reserved = 0  # sequence numbers below this are durably ours
        self._reserving = 0  # the same, once the open transaction commits
        self.now_us = 0

    # ------------------------------------------------------------ transactions

    def begin(self, now_us: int) -> None:
        """Forget what a transaction before left behind."""
        self.now_us = now_us
        self.effects = Effects()
        self.canceled.clear()
        self._reserving = self._reserved

    def committed(self) -> Effects:
        """Return what the transaction changed, now that it is durable."""
        self._reserved = self._reserving
        return self.effects

    def mark(self) -> Mark:
        """Return where a savepoint begins."""
        effects = self.effects
        return Mark(len(effects.pending), len(effects.gone), len(effects.ended))

    def rewind(self, mark: Mark) -> None:
        """Forget what was done since a savepoint that is rolled back.

        A reservation made since is forgotten too: the next insert makes it again.
        """
        effects = self.effects
        del effects.pending[mark.pending :]
        if len(effects.gone) > mark.gone:
            del effects.gone[mark.gone :]
            self.canceled = {entry.seq for _, entry in effects.gone}
        del effects.ended[mark.ended :]
        self._reserving = self._reserved

    def start_at(self, seq: int, reserved: int) -> None:
        """Give out sequence numbers from `seq` on; those below `reserved` are durably ours."""
        self.next_seq = seq
        self._reserved = self._reserving = reserved

    def runs_low(self) -> bool:
        """Whether numbers should be reserved before the turn.

        Inside it a body would learn numbers whose reservation may be rolled back with it: a crash could give them out
        again.
        """
        return self._reserved - self.next_seq < _SEQ_LOW

    def reserve(self) -> None:
        """Reserve the next block, in a transaction of its own."""
        self._reserving = self.next_seq + SEQ_BLOCK
        self._raw.execute(_RESERVE, (self._reserving,))

    def _take_seqs(self, count: int) -> int:
        first = self.next_seq
        self.next_seq = first + count
        if self.next_seq > self._reserving:
            self._reserving = self.next_seq + SEQ_BLOCK
            self._raw.execute(_RESERVE, (self._reserving,))
        return first

    # ------------------------------------------------------------ scheduling

    def insert(self, new: Sequence[NewJob]) -> list[str]:
        """Store jobs and return their ids; a key may make one of them a job that is already there.

        Raises KeyConflict; the caller then rolls back to its savepoint.
        """
        return [self.insert_one(job) for job in new]

    def insert_one(self, job: NewJob) -> str:
        """Store one job and return its id, or that of the job its key stands for. Raises KeyConflict."""
        reach("schedule.before_insert")
        if job.idempotency_key is not None and (found := self._resent(job.idempotency_key, job.path, job.args)):
            return found
        if job.key is not None and (kept := self._settle_key(job)):
            return kept
        seq, nonce = self._take_seqs(1), self._nonces()
        self._raw.execute(_INSERT, _values(job, seq, nonce))
        self.effects.pending.append((job.queue, Entry(job.fire_at_us, seq)))
        reach("schedule.inserted")
        return format_id(seq, nonce)

    def insert_plain(self, new: Sequence[NewJob]) -> list[str]:
        """Store jobs that have no keys: one statement for all of them."""
        reach("schedule.before_insert")
        seq, nonces = self._take_seqs(len(new)), self._nonces
        numbered = [(job, at, nonces()) for at, job in enumerate(new, seq)]
        self._raw.executemany(_INSERT, [_values(job, at, nonce) for job, at, nonce in numbered])
        self.effects.pending.extend((job.queue, Entry(job.fire_at_us, at)) for job, at, _ in numbered)
        reach("schedule.inserted")
        return [format_id(at, nonce) for _, at, nonce in numbered]

    def _resent(self, key: str, path: str, args: bytes) -> str | None:
        row = self._raw.execute(_BY_IDEMPOTENCY_KEY, (key,)).fetchone()
        if row is None:
            return None
        if (row[2], row[3]) != (path, args):
            msg = f"idempotency_key {key!r} was used for {row[2]} with other arguments: one key stands for one call"
            raise KeyConflict(msg)
        return format_id(row[0], row[1])

    def _settle_key(self, job: NewJob) -> str | None:
        row = self._raw.execute(_BY_KEY, (job.key,)).fetchone()
        if row is None:
            return None
        seq, nonce, state, queue, fire_at_us = row
        if format_id(seq, nonce) == job.parent_id:
            # The running job schedules its own successor: it hands its key on.
            self._raw.execute(_HAND_ON, (seq,))
            return None
        match job.on_conflict:
            case "keep":
                return format_id(seq, nonce)
            case "replace" if state == "pending":
                self._cancel_pending(seq, queue, fire_at_us)
                return None
            case "replace":
                msg = f"the job under key {job.key!r} is running and can't be replaced; wait for it, or use another key"
                raise KeyConflict(msg)
            case "error":
                msg = f"key {job.key!r} is taken by the unfinished job {format_id(seq, nonce)}"
                raise KeyConflict(msg)

    # ------------------------------------------------------------ steering

    def cancel(self, which: CancelJob, running_seq: int | None = None) -> bool:
        """Cancel a pending job and return whether it will never start."""
        reach("cancel.before")
        if which.key is not None:
            row = self._raw.execute(_BY_KEY, (which.key,)).fetchone()
            if row is None:
                return False
            seq, _, state, queue, fire_at_us = row
        else:
            parsed = parse_id(which.job_id or "")
            row = self._raw.execute(_BY_SEQ, (parsed[0],)).fetchone() if parsed else None
            if parsed is None or row is None or row[0] != parsed[1]:
                return False
            seq, (_, state, queue, fire_at_us) = parsed[0], row
        if state != "pending" or seq == running_seq:
            return bool(state == "canceled")
        self._cancel_pending(seq, queue, fire_at_us)
        reach("cancel.after")
        return True

    def _cancel_pending(self, seq: int, queue: str, fire_at_us: int) -> None:
        self._raw.execute(_CANCEL, (self.now_us, seq))
        self.effects.gone.append((queue, Entry(fire_at_us, seq)))
        self.canceled.add(seq)
        self.effects.ended.append(seq)

    def retry(self, job_id: str, now_us: int) -> bool:
        """Make a failed job pending again, due now, and return whether it was failed."""
        parsed = parse_id(job_id)
        row = self._raw.execute(_BY_SEQ, (parsed[0],)).fetchone() if parsed else None
        if parsed is None or row is None or row[0] != parsed[1] or row[1] != "failed":
            return False
        try:
            self._raw.execute(_RETRY, (now_us, parsed[0]))
        except sqlite3.IntegrityError as error:
            msg = "another unfinished job has taken this job's key"
            raise KeyConflict(msg) from error
        self.effects.pending.append((row[2], Entry(now_us, parsed[0])))
        return True

    # ------------------------------------------------------------ attempts

    def claim(self, due: Iterable[DueJob]) -> bool:
        """Mark attempts as started by this boot, and return whether every claim took hold."""
        reach("claim.before")
        rows = [(job.attempt, job.dispatched_at_us, self._boot, job.seq, job.attempt - 1) for job in due]
        changed = self._raw.executemany(_CLAIM, rows).rowcount
        reach("claim.written")
        return changed == len(rows)

    def complete_actions(self, ended: Sequence[CompleteJob]) -> list[bool]:
        """Record how claimed attempts ended, and return for each whether its claim still stood."""
        reach("complete.before")
        boot = self._boot
        rows = [(*_outcome_values(unit.outcome, unit.completed_at_us), unit.seq, unit.attempt, boot) for unit in ended]
        changed = self._raw.executemany(_COMPLETE_ACTION, rows).rowcount
        if changed == len(ended):
            stood = [True] * changed
        else:
            marks = [(unit.seq, unit.attempt, boot, unit.completed_at_us) for unit in ended]
            stood = [self._raw.execute(_COMPLETED, mark).fetchone() is not None for mark in marks]
        self.effects.ended.extend(unit.seq for unit, stands in zip(ended, stood, strict=True) if stands)
        reach("complete.written")
        return stood

    def complete_mutation(self, job: DueJob, outcome: Outcome, completed_at_us: int) -> bool:
        """Record how a mutation ended, in the transaction of its writes, and return whether it was still pending."""
        started = (job.attempt, job.dispatched_at_us, self._boot, job.seq, job.attempt - 1)
        if isinstance(outcome, Succeeded):
            values = (completed_at_us, outcome.result, int(outcome.truncated), *started)
            stood = self._raw.execute(_SUCCEED_MUTATION, values).rowcount == 1
        else:
            values = (*_outcome_values(outcome, completed_at_us), *started)
            stood = self._raw.execute(_COMPLETE_MUTATION, values).rowcount == 1
        if stood:
            self.effects.ended.append(job.seq)
        reach("mutation.completion_written")
        return stood

    def fail_pending(self, seq: int, failure: Failed) -> None:
        """Record that a pending job failed, without looking at what stands in its row: it may be damaged."""
        now_us = self.now_us
        values = (now_us, failure.cause, failure.error, failure.code, failure.data, failure.traceback, now_us, seq)
        if self._raw.execute(_FAIL_UNREAD, values).rowcount:
            self.effects.ended.append(seq)

    # ------------------------------------------------------------ live mutations with an idempotency key

    def earlier_result(self, key: str, path: str, args: bytes) -> tuple[Any] | None:
        """Return the result of an earlier success under this key, in a tuple; None when there was none.

        Raises KeyConflict for other arguments, for a result too large to have been kept, or for a scheduled job.
        """
        if self._resent(key, path, args) is None:
            return None
        row = self._raw.execute(_BY_IDEMPOTENCY_KEY, (key,)).fetchone()
        if row[4] != "success":
            msg = f"idempotency_key {key!r} belongs to a scheduled job that is {row[4]}: read it with scheduler.get"
            raise KeyConflict(msg)
        if row[6]:
            msg = f"the call under idempotency_key {key!r} succeeded, but its result was too large to be kept"
            raise KeyConflict(msg)
        return (codec.decode(row[5]) if row[5] is not None else None,)

    def record_live(self, key: str, path: str, args: bytes, kept: tuple[bytes | None, bool]) -> None:
        """Leave a row, in the mutation's own transaction, that answers every resend."""
        if self._raw.execute(_BY_IDEMPOTENCY_KEY, (key,)).fetchone() is not None:
            msg = f"the mutation itself scheduled a job under the idempotency_key {key!r} of its own call"
            raise KeyConflict(msg)
        seq, nonce = self._take_seqs(1), self._nonces()
        now = self.now_us
        self._raw.execute(
            _RECORD_LIVE,
            (seq, nonce, path, now, now, now, now, now, args, key, *kept),
        )


def _values(job: NewJob, seq: int, nonce: int) -> tuple[Any, ...]:
    return (
        seq, nonce, job.path, job.kind, job.queue, job.fire_at_us, job.scheduled_at_us, job.created_at_us, job.args,
        job.key, job.idempotency_key, job.parent_id,
    )  # fmt: skip


def _outcome_values(outcome: Outcome, completed_at_us: int) -> tuple[Any, ...]:
    match outcome:
        case Succeeded(result, truncated):
            return ("success", completed_at_us, None, None, None, None, None, result, int(truncated))
        case Failed(cause, error, code, data, traceback):
            return ("failed", completed_at_us, cause, error, code, data, traceback, None, 0)
