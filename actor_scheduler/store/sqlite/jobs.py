"""Scheduling: how jobs get into the file. `JobWriter` runs inside the turn's transaction, on the writer's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actor_scheduler import codec
from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import KeyConflict
from actor_scheduler.ids import NonceSource, format_id, parse_id
from actor_scheduler.model import Entry, NewJob
from actor_scheduler.queues import PARKED
from actor_scheduler.retention import prune_at_us
from actor_scheduler.store.sqlite.changes import Changes
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.lanes import Lanes
from actor_scheduler.store.sqlite.outcomes import Outcomes
from actor_scheduler.store.sqlite.steering import Steering

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from actor_scheduler.store.base import Effects, Host
    from actor_scheduler.store.sqlite.changes import Mark

# Sequence numbers are reserved in blocks, so that a rolled-back or pruned one is never given out again, at the price
# of one small write per block instead of one per job.
SEQ_BLOCK: Final = 65_536
_SEQ_LOW: Final = SEQ_BLOCK // 2  # left over at the start of a turn: more than bodies can schedule in its 30 ms

_INSERT = ours(
    "INSERT INTO main._scheduler_jobs (seq, nonce, path, kind, queue, fire_at_us, scheduled_at_us, created_at_us, args,"
    " key, idempotency_key, parent_id, lane, priority, timeout_us, retry, chain)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
_INSERT_RUN = ours(
    "INSERT INTO main._scheduler_jobs (seq, nonce, path, kind, queue, fire_at_us, scheduled_at_us, created_at_us, args,"
    " lane, occurrence_id, cron, tick_us, cron_run) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (cron, tick_us) WHERE cron IS NOT NULL DO NOTHING",
)
_BY_IDEMPOTENCY_KEY = ours(
    "SELECT seq, nonce, path, args, state, result, result_truncated FROM main._scheduler_jobs"
    " WHERE idempotency_key = ?",
)
_BY_KEY = ours(
    "SELECT seq, nonce, path, state, queue, fire_at_us FROM main._scheduler_jobs"
    " WHERE key = ? AND state IN ('pending', 'in_progress')",
)
_HAND_ON = ours("UPDATE main._scheduler_jobs SET key = NULL WHERE seq = ?")
_RECORD_LIVE = ours(
    "INSERT INTO main._scheduler_jobs (seq, nonce, path, kind, queue, state, fire_at_us, scheduled_at_us,"
    " created_at_us, started_at_us, completed_at_us, attempt, args, idempotency_key, result, result_truncated,"
    " prune_at_us) VALUES (?, ?, ?, 'mutation', 'mutation', 'success', ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)",
)
_RESERVE = ours("UPDATE main._scheduler_meta SET value = ? WHERE name = 'seq_reserved'")


class JobWriter:
    """Writes jobs inside a turn, and notes what that changes for the index."""

    def __init__(
        self,
        raw: sqlite3.Connection,
        boot: int,
        nonces: NonceSource,
        host: Host,
        *,
        canceling: Iterable[int] = (),
    ) -> None:
        self._raw = raw
        self._nonces = nonces
        self._keep_us = host.keep_us
        self.changes = Changes(canceling)
        self.lanes = Lanes(raw)
        self.outcomes = Outcomes(raw, boot, self.changes, host.keep_us)
        self.steering = Steering(raw, self.changes, self.lanes, host)
        self.next_seq = 0
        self._reserved = 0  # sequence numbers below this are durably ours
        self._reserving = 0  # the same, once the open transaction commits
        self.now_us = 0

    # ------------------------------------------------------------ transactions

    def begin(self, now_us: int) -> None:
        """Forget what a transaction before left behind."""
        self.now_us = now_us
        self.changes.begin()
        self._reserving = self._reserved

    def finish(self) -> None:
        """Do what is left to do before the commit: the lanes that were touched get their heads."""
        self.lanes.settle(self.changes)

    def committed(self) -> Effects:
        """Return what the transaction changed, now that it is durable."""
        self._reserved = self._reserving
        return self.changes.committed()

    def mark(self) -> Mark:
        """Return where a savepoint begins."""
        return self.changes.mark()

    def rewind(self, mark: Mark) -> None:
        """Forget what was done since a savepoint that is rolled back.

        A reservation made since is forgotten too: the next insert makes it again.
        """
        self.changes.rewind(mark)
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

    def take_seqs(self, count: int) -> int:
        """Take sequence numbers, and return the first of them."""
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
        """Store one job and return its id, or that of the job its key stands for. Raises KeyConflict.

        A job that a running action schedules after it was asked to be canceled is born canceled.
        """
        reach("schedule.before_insert")
        if job.idempotency_key is not None and (found := self._resent(job.idempotency_key, job.path, job.args)):
            return found
        born_canceled = self.changes.any_canceling and self._born_canceled(job)
        if born_canceled:
            job = job._replace(key=None)  # it takes nobody's place
        if job.key is not None and (kept := self._settle_key(job)):
            return kept
        seq, nonce = self.take_seqs(1), self._nonces()
        self._raw.execute(_INSERT, self._values(job, seq, nonce))
        if job.lane is None:
            self.changes.waits(job.queue, Entry(job.fire_at_us, seq))
        reach("schedule.inserted")
        if born_canceled:
            self.steering.cancel_pending(seq, job.path, self._queue(job), job.fire_at_us, self.now_us)
        return format_id(seq, nonce)

    def _born_canceled(self, job: NewJob) -> bool:
        parent = parse_id(job.parent_id) if job.parent_id is not None else None
        return parent is not None and self.changes.is_canceling(parent[0])

    def insert_plain(self, new: Sequence[NewJob]) -> list[str]:
        """Store jobs that have no keys and no lanes: one statement for all of them."""
        if self.changes.any_canceling:
            return self.insert(new)
        reach("schedule.before_insert")
        seq, nonces, values = self.take_seqs(len(new)), self._nonces, self._values
        numbered = [(job, at, nonces()) for at, job in enumerate(new, seq)]
        self._raw.executemany(_INSERT, [values(job, at, nonce) for job, at, nonce in numbered])
        self.changes.effects.pending.extend((job.queue, Entry(job.fire_at_us, at)) for job, at, _ in numbered)
        reach("schedule.inserted")
        return [format_id(at, nonce) for _, at, nonce in numbered]

    def insert_run(self, job: NewJob, occurrence_id: str | None, *, at_once: bool) -> str | None:
        """Store the run of a cron and return its id; None when its tick has a run already.

        `at_once`: its lane is known to be empty, so that it can stand in its queue right away.
        """
        seq, nonce = self.take_seqs(1), self._nonces()
        parked = job.lane is not None and not at_once
        cursor = self._raw.execute(
            _INSERT_RUN,
            (seq, nonce, job.path, job.kind, PARKED + job.queue if parked else job.queue, job.fire_at_us,
             job.scheduled_at_us, job.created_at_us, job.args, job.lane, occurrence_id, job.cron, job.tick_us,
             job.cron_run),
        )  # fmt: skip
        if cursor.rowcount == 0:
            return None
        if job.lane is not None:
            self.lanes.used = True
        if parked and job.lane is not None:
            self.changes.lanes.add(job.lane)
        else:
            self.changes.waits(job.queue, Entry(job.fire_at_us, seq))
        return format_id(seq, nonce)

    def _queue(self, job: NewJob) -> str:
        return job.queue if job.lane is None else PARKED + job.queue

    def _values(self, job: NewJob, seq: int, nonce: int) -> tuple[Any, ...]:
        queue = job.queue
        if job.lane is not None:
            self.lanes.used = True
            self.changes.lanes.add(job.lane)
            queue = PARKED + queue
        return (
            seq, nonce, job.path, job.kind, queue, job.fire_at_us, job.scheduled_at_us, job.created_at_us, job.args,
            job.key, job.idempotency_key, job.parent_id, job.lane, job.priority, job.timeout_us, job.retry, job.chain,
        )  # fmt: skip

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
        seq, nonce, path, state, queue, fire_at_us = row
        if format_id(seq, nonce) == job.parent_id:
            # The running job schedules its own successor: it hands its key on.
            self._raw.execute(_HAND_ON, (seq,))
            return None
        match job.on_conflict:
            case "keep":
                return format_id(seq, nonce)
            case "replace" if state == "pending":
                self.steering.cancel_pending(seq, path, queue, fire_at_us, self.now_us)
                return None
            case "replace":
                msg = f"the job under key {job.key!r} is running and can't be replaced; wait for it, or use another key"
                raise KeyConflict(msg)
            case "error":
                msg = f"key {job.key!r} is taken by the unfinished job {format_id(seq, nonce)}"
                raise KeyConflict(msg)

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
        seq, nonce = self.take_seqs(1), self._nonces()
        now = self.now_us
        self._raw.execute(
            _RECORD_LIVE,
            (seq, nonce, path, now, now, now, now, now, args, key, *kept, prune_at_us(now, self._keep_us(path))),
        )
