"""One turn on the writer's thread: many units, one transaction, one flush.

Blame one, or stop.  A failure before the commit, or a commit refused for a constraint, is definite: the turn is
rolled back, split, and run again until the unit to blame stands alone; its turn-mates commit.  So a mutation's body
may run more than once before it is answered, and its effects commit once.  Any other error of a commit is unknown
(trap T2): the turn's units are answered so, and the store must be reopened.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.clock import Clock, monotonic_us
from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import (
    ActorSchedulerError,
    OutcomeUnknown,
    StoreUnavailable,
    TimeLimitExceeded,
    TransactionLost,
    said,
)
from actor_scheduler.limits import TURN_US_MAX
from actor_scheduler.model import CRONS, Again, DueJob, Entry, Failed
from actor_scheduler.queues import holds_actions, holds_mutations
from actor_scheduler.store.base import (
    Claimed,
    CompleteJob,
    Done,
    Effects,
    Host,
    InsertJobs,
    Mutate,
    Refill,
    Refused,
    Reply,
    RunDue,
    TurnResult,
    Unit,
    Unknown,
)
from actor_scheduler.store.cron_units import ActivateCrons, CronTargets, CronUnit, StageCrons
from actor_scheduler.store.sqlite import cron_rows, job_rows
from actor_scheduler.store.sqlite.batches import BUSY, Definite, is_plain, merge, refused_commit, run_of, split, stop
from actor_scheduler.store.sqlite.crons import CronWriter
from actor_scheduler.store.sqlite.drive import NoLoop, no_loop
from actor_scheduler.store.sqlite.faults import (
    StoreFault,
    code_of,
    describe,
    for_caller,
    is_store_fault,
    transaction_lost,
)
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.manifests import Manifests
from actor_scheduler.store.sqlite.mutations import MutationRunner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actor_scheduler.store.sqlite.blame import BlameFile
    from actor_scheduler.store.sqlite.connection import Connection
    from actor_scheduler.store.sqlite.jobs import JobWriter

log = logging.getLogger("actor_scheduler")

_CRONS_AT_ONCE: Final = 64  # read together; between them the turn looks at its time

_BEGIN = ours("BEGIN IMMEDIATE")
_COMMIT = ours("COMMIT")
_ROLLBACK = ours("ROLLBACK")
_SAVE = ours("SAVEPOINT unit")
_RELEASE = ours("RELEASE unit")
_BACK = ours("ROLLBACK TO unit")


def _is_action(unit: RunDue) -> bool:
    return holds_actions(unit.queue)


def _is_cron(unit: RunDue) -> bool:
    return unit.queue == CRONS


class TurnRunner:
    """Runs turns on one connection, on that connection's thread."""

    def __init__(self, connection: Connection, writer: JobWriter, host: Host, clock: Clock, suspect: BlameFile) -> None:
        self._connection = connection
        self._raw = connection.raw
        self._writer = writer
        self._host = host
        self._clock = clock
        self._stub = NoLoop()
        self._crons = CronWriter(connection.raw, writer, host)
        self._mutations = MutationRunner(connection, writer, self._crons, host, clock, suspect, self._stub)
        self._manifests = Manifests(connection.raw, writer, self._crons)
        self._due: dict[int, DueJob | None] = {}  # bodies read in the open transaction

    def run(self, units: Sequence[Unit], refills: Sequence[Refill]) -> TurnResult:
        """Run a turn and return its replies. Never raises: what can't be said of one unit is `broken`."""
        result = TurnResult()
        began_us = monotonic_us()
        waiting = [list(units)] if units else []
        with no_loop(self._stub):
            if self._writer.runs_low() and (fault := self._reserve()) is not None:
                stop(result, waiting, fault)
                waiting = []
            while waiting:
                batch = waiting.pop()
                try:
                    replies, effects = self._answer(batch, waiting, began_us)
                except OutcomeUnknown as unknown:
                    result.replies.extend(Unknown(unknown) for _ in batch)
                    stop(result, waiting[::-1], unknown)
                    break
                except Exception as fault:
                    if not isinstance(fault, StoreFault):
                        log.exception("a turn failed in the scheduler itself; it was rolled back")
                    stop(result, [batch, *reversed(waiting)], fault)
                    break
                result.replies.extend(replies)
                merge(result.effects, effects)
                out_of_time = len(replies) < len(batch) or monotonic_us() - began_us > TURN_US_MAX
                if replies and out_of_time:  # without replies the batch was split, and its parts are in line
                    break  # what was not begun goes into the next turn
            if result.broken is None:
                self._refill(result, refills)
        return result

    def _reserve(self) -> Exception | None:
        """Reserve sequence numbers in a transaction of its own; return why the store must be reopened first.

        A definite refusal (busy, full) is left to the turn, which meets it too.  A commit of unknown outcome is not:
        nothing goes on after a flush that failed (trap T2).
        """
        try:
            self._raw.execute(_BEGIN)
            self._writer.begin(self._clock.now_us())
            self._writer.reserve()
            self._commit()
        except sqlite3.Error as error:
            self._roll_back()
            return StoreFault(error) if is_store_fault(error) else None
        except Definite:
            return None
        except OutcomeUnknown as unknown:
            return unknown
        self._writer.committed()
        return None

    def _answer(self, batch: list[Unit], waiting: list[list[Unit]], began_us: int) -> tuple[list[Reply], Effects]:
        """Commit a batch; or split it, put its parts in line, and answer nothing yet; or blame the one unit in it."""
        try:
            return self._attempt(batch, began_us)
        except Definite as definite:
            if len(batch) == 1:
                return self._blame(batch[0], definite.error)
            waiting.extend(reversed(split(batch, definite.at)))
            return [], Effects()

    # ------------------------------------------------------------ one transaction

    def _attempt(self, batch: list[Unit], began_us: int) -> tuple[list[Reply], Effects]:
        """Run as many units as fit into the turn's time, in one transaction, and commit.

        Raises Definite (all rolled back), StoreFault (all rolled back, reopen), OutcomeUnknown (reopen).
        """
        raw = self._raw
        reach("turn.before_begin")
        try:
            raw.execute(_BEGIN)
        except sqlite3.Error as error:
            if code_of(error) in BUSY:
                msg = f"another program holds the database for writing: {describe(error)}"
                return [Refused(StoreUnavailable(msg)) for _ in batch], Effects()
            raise StoreFault(error) from error
        reach("turn.begun")
        self._writer.begin(self._clock.now_us())
        self._due = {}
        replies: list[Reply] = []
        try:
            while len(replies) < len(batch) and (not replies or monotonic_us() - began_us <= TURN_US_MAX):
                self._run_next(batch, replies)
                if not raw.in_transaction:
                    raise Definite(TransactionLost("SQLite ended the transaction by itself"), len(replies) - 1)
            self._writer.finish()
            self._crons.settle()
        except Definite:
            self._roll_back()
            raise
        except sqlite3.Error as error:  # of a statement of ours
            lost = not raw.in_transaction
            self._roll_back()
            if is_store_fault(error):
                raise StoreFault(error) from error
            # What one caller gave us can't be bound, or what stands in one row can't be read: which one, halving finds.
            raise Definite(transaction_lost(error) if lost else for_caller(error, ""), None) from error
        except StoreFault:
            self._roll_back()
            raise
        except Exception as error:  # the same, when Python finds it first: an integer over 64 bits, a lone surrogate
            self._roll_back()
            raise Definite(error, None) from error
        self._commit()
        return replies, self._writer.committed()

    def _commit(self) -> None:
        reach("turn.before_commit")
        try:
            self._raw.execute(_COMMIT)
        except sqlite3.Error as error:
            code = code_of(error)
            self._roll_back()
            if code in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_FULL, *BUSY):
                raise Definite(refused_commit(error), None) from error
            msg = f"COMMIT failed with {describe(error)}: it may or may not have happened"
            raise OutcomeUnknown(msg) from error
        reach("turn.committed")

    def _roll_back(self) -> None:
        if self._raw.in_transaction:
            try:
                self._raw.execute(_ROLLBACK)
            except sqlite3.Error as error:
                log.warning("rollback failed, the store is reopened: %s", describe(error))

    def _blame(self, unit: Unit, error: Exception) -> tuple[list[Reply], Effects]:
        """Answer for the one unit that can't commit: a job is recorded as failed, anything else is refused.

        A fault of the store is nobody's failure: the job waits.  Raises OutcomeUnknown when the record's commit does.
        """
        body = isinstance(unit, RunDue) and holds_mutations(unit.queue)  # only a body has a time limit
        fault = isinstance(error, StoreUnavailable) or (isinstance(error, TimeLimitExceeded) and not body)
        if fault or not isinstance(unit, RunDue | CompleteJob):
            return [Refused(error)], Effects()
        failure = self._host.failure(error)
        try:
            self._raw.execute(_BEGIN)
            self._writer.begin(self._clock.now_us())
            if isinstance(unit, RunDue):
                reply = self._blame_job(unit, failure, error)
            else:  # what it failed with may be what could not be written
                outcome = unit.outcome._replace(failure=failure) if isinstance(unit.outcome, Again) else failure
                self._writer.outcomes.complete_actions([unit._replace(outcome=outcome)])
                reply = Done()
            self._writer.finish()
            self._crons.settle()
            self._commit()
        except (sqlite3.Error, Definite) as again:
            self._roll_back()
            return [Refused(StoreUnavailable(f"a failure could not be recorded: {again}"))], Effects()
        return [reply], self._writer.committed()

    def _blame_job(self, unit: RunDue, failure: Failed, error: Exception) -> Reply:
        """Record the failure of a due job: where its row can be read, another attempt may follow."""
        seq, now_us = unit.entry.seq, self._writer.now_us
        if _is_cron(unit):
            row = cron_rows.many(self._raw, [seq]).get(seq)
            if row is not None:
                self._crons.trouble(row, said(error))
            return Done()
        job = job_rows.due_if_readable(self._raw, seq, now_us) if holds_mutations(unit.queue) else None
        if job is not None:
            return self._mutations.fail(job, error)
        self._writer.outcomes.fail_pending(seq, failure, now_us)
        return Done()

    # ------------------------------------------------------------ units

    def _run_next(self, batch: list[Unit], replies: list[Reply]) -> None:
        """Run the next unit, or the next few of a kind that one statement serves."""
        unit = batch[len(replies)]
        # By type, the most frequent first: matching patterns costs more than what some units do.
        if isinstance(unit, RunDue):
            if not holds_mutations(unit.queue):
                (self._fire if _is_cron(unit) else self._claim)(batch, replies)
                return
            if unit.entry.seq not in self._due:
                self._read_due(batch, len(replies))
            replies.append(self._mutations.due(unit, self._due.get(unit.entry.seq), len(replies)))
        elif isinstance(unit, InsertJobs):
            self._insert(batch, replies)
        elif isinstance(unit, Mutate):
            replies.append(self._mutations.live(unit, len(replies)))
        elif isinstance(unit, CompleteJob):
            ended = list(run_of(CompleteJob, batch, len(replies)))
            replies.extend(Done(stood) for stood in self._writer.outcomes.complete_actions(ended))
        else:
            replies.append(self._in_savepoint(lambda: self._steer(unit)))

    def _steer(self, unit: Unit) -> object:
        """Do what callers and operators want of jobs and crons that exist."""
        if isinstance(unit, StageCrons | ActivateCrons):
            return self._manifests.apply(unit)
        if isinstance(unit, CronTargets):
            return cron_rows.paths(self._raw)
        if isinstance(unit, CronUnit):
            return self._crons.apply(unit)
        assert not isinstance(unit, RunDue | InsertJobs | Mutate | CompleteJob)
        return self._writer.steering.apply(unit, self._writer.now_us)

    def _fire(self, batch: list[Unit], replies: list[Reply]) -> None:
        """Fire the due cron of this unit, and those right after it."""
        run = list(itertools.takewhile(_is_cron, run_of(RunDue, batch, len(replies))))[:_CRONS_AT_ONCE]
        rows = cron_rows.many(self._raw, [unit.entry.seq for unit in run])
        for unit in run:
            row = rows.get(unit.entry.seq)
            if row is not None and row.fire_at_us == unit.entry.fire_at_us:
                del rows[row.id]  # an entry that stands twice fires once
            fired = self._crons.fire(unit.entry, row)
            replies.append(Done(fired))
            if fired is not None and fired.runs > 1:
                return  # a catch-up: the turn looks at its time before the next

    def _insert(self, batch: list[Unit], replies: list[Reply]) -> None:
        """Store the jobs of this unit, and of those right after it, as long as none has a key to settle."""
        run = run_of(InsertJobs, batch, len(replies))
        plain = list(itertools.takewhile(is_plain, run))
        if not plain:
            unit = batch[len(replies)]
            assert isinstance(unit, InsertJobs)
            replies.append(self._in_savepoint(lambda: self._writer.insert(unit.jobs)))
            return
        ids = self._writer.insert_plain([job for unit in plain for job in unit.jobs])
        at = 0
        for unit in plain:
            replies.append(Done(ids[at : at + len(unit.jobs)]))
            at += len(unit.jobs)

    def _claim(self, batch: list[Unit], replies: list[Reply]) -> None:
        """Claim the due action of this unit, and of those right after it."""
        run = list(itertools.takewhile(_is_action, run_of(RunDue, batch, len(replies))))
        moved = self._writer.changes.canceled  # in this transaction; what was promoted waits in another place
        due = job_rows.due_many(
            self._raw, [unit.entry.seq for unit in run if unit.entry.seq not in moved], self._writer.now_us
        )
        if not self._writer.outcomes.claim(due.values()):
            raise StoreFault(sqlite3.DatabaseError("a claim did not take hold: another program writes this file"))
        for unit in run:
            job = due.pop(unit.entry.seq, None)  # an entry that stands twice is one claim
            replies.append(Done(Claimed(job)) if job is not None else Done())

    def _read_due(self, batch: list[Unit], at: int) -> None:
        """Read the bodies of the due mutations from here on; what a unit cancels meanwhile, the writer remembers."""
        seqs = [unit.entry.seq for unit in run_of(RunDue, batch, at) if holds_mutations(unit.queue)]
        self._due = {**dict.fromkeys(seqs), **job_rows.due_many(self._raw, seqs, self._writer.now_us)}

    def _in_savepoint(self, work: Any) -> Reply:
        """Run a step that may refuse half-way, and undo it if it does."""
        mark = self._writer.mark()
        self._raw.execute(_SAVE)
        try:
            value = work()
        except ActorSchedulerError as error:
            self._raw.execute(_BACK)
            self._raw.execute(_RELEASE)
            self._writer.rewind(mark)
            return Refused(error)
        self._raw.execute(_RELEASE)
        return Done(value)

    def _refill(self, result: TurnResult, refills: Sequence[Refill]) -> None:
        for refill in refills:
            try:
                entries = self._window(refill)
            except sqlite3.Error as error:
                result.broken = StoreUnavailable(f"reading pending jobs failed: {describe(error)}")
                return
            result.refills.append((refill, entries, len(entries) < refill.limit))
            reach("refill.read")

    def _window(self, refill: Refill) -> list[Entry]:
        if refill.queue == CRONS:
            return cron_rows.window(self._raw, refill.after, refill.limit)
        return job_rows.window(self._raw, refill.queue, refill.after, refill.limit)
