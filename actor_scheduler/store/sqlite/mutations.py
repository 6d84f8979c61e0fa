"""Mutations in a turn: each in its own savepoint, driven to its end, with its completion beside its writes."""

from __future__ import annotations

import sqlite3
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from actor_scheduler.clock import Clock, monotonic_us
from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import ActorSchedulerError, KeyConflict, StoreUnavailable, TransactionLost, said
from actor_scheduler.failures import log_failure
from actor_scheduler.model import DueJob, Outcome, Succeeded
from actor_scheduler.store.base import Done, Earlier, Host, Mutate, Ran, Refused, Reply, RunDue
from actor_scheduler.store.sqlite.batches import Definite
from actor_scheduler.store.sqlite.blame import NOBODY, BlameFile
from actor_scheduler.store.sqlite.body import MutationTx
from actor_scheduler.store.sqlite.drive import NoLoop, drive
from actor_scheduler.store.sqlite.faults import StoreFault
from actor_scheduler.store.sqlite.fence import ours

if TYPE_CHECKING:
    from contextvars import Context

    from actor_scheduler.store.sqlite.connection import Connection
    from actor_scheduler.store.sqlite.crons import CronWriter
    from actor_scheduler.store.sqlite.jobs import JobWriter

_SAVE = ours("SAVEPOINT unit")
_RELEASE = ours("RELEASE unit")
_BACK = ours("ROLLBACK TO unit")


class MutationRunner:
    """Runs mutations, live and due, inside the open transaction."""

    def __init__(
        self,
        connection: Connection,
        writer: JobWriter,
        crons: CronWriter,
        host: Host,
        clock: Clock,
        suspect: BlameFile,
        stub: NoLoop,
    ) -> None:
        self._connection = connection
        self._raw = connection.raw
        self._writer = writer
        self._crons = crons
        self._host = host
        self._clock = clock
        self._suspect = suspect
        self._stub = stub

    def live(self, unit: Mutate, at: int) -> Reply:
        """Run a live mutation."""
        once = unit.idempotent
        if once is not None:
            try:
                earlier = self._writer.earlier_result(once.key, once.path, once.args)
            except ActorSchedulerError as error:
                return Refused(error)
            if earlier is not None:
                return Done(Earlier(earlier[0]))

        def finish(value: Any) -> None:
            if once is not None:
                self._writer.record_live(once.key, once.path, once.args, self._host.keep(once.path, value))

        value, raised = self._drive(unit.body, None, unit.limit_us, unit.context or copy_context(), finish, at)
        return Refused(raised) if raised is not None else Done(value)

    def due(self, unit: RunDue, job: DueJob | None, at: int) -> Reply:
        """Run a due mutation: its writes and its completion are one savepoint."""
        reach("mutation.before")
        if job is None or job.seq in self._writer.changes.canceled:
            return Done()  # canceled by a unit before this one
        try:
            body, limit_us = self._host.mutation(job, unit.prepared)
        except Exception as undispatchable:
            return self.fail(job, undispatchable)
        outcome: Outcome = Succeeded()

        def finish(value: Any) -> None:
            nonlocal outcome
            outcome = Succeeded(*self._host.keep(job.path, value))
            if not self._complete(job, outcome):
                raise StoreFault(sqlite3.DatabaseError("a due row is not pending: another program writes this file"))

        self._suspect.note(job.seq)
        try:
            _, error = self._drive(body, job, limit_us, copy_context(), finish, at)
        finally:
            self._suspect.note(NOBODY)
        if isinstance(error, StoreUnavailable):
            return Refused(error)  # a full disk is not the job's fault: it waits
        if error is not None:
            reply = self.fail(job, error)
            reach("mutation.failure_written")
            return reply
        return self._ran(job, outcome)

    def fail(self, job: DueJob, error: BaseException) -> Reply:
        """Record a failed attempt, and whether another follows."""
        outcome = self._host.judge(job, self._host.failure(error), error)
        log_failure(job, outcome)
        self._complete(job, outcome)
        return self._ran(job, outcome)

    def _ran(self, job: DueJob, outcome: Outcome) -> Reply:
        return Done(Ran(job, outcome, self._clock.now_us())) if self._host.observes else Done()

    def _complete(self, job: DueJob, outcome: Outcome) -> bool:
        return self._writer.outcomes.complete_mutation(job, outcome, self._clock.now_us())

    def _drive(
        self, body: Any, job: DueJob | None, limit_us: int | None, context: Context, finish: Any, at: int
    ) -> tuple[Any, BaseException | None]:
        """Drive a mutation's body inside its savepoint; return what it returned, or what it raised and was undone for.

        Raises Definite when the transaction is gone with it, StoreFault when the file is to blame, and whatever a
        statement of ours raises: those are the turn's to judge, not the function's failure.
        """
        raw = self._raw
        tx = MutationTx(self._connection, self._writer, self._crons, job.seq if job is not None else None)
        mark = self._writer.mark()
        raw.execute(_SAVE)
        reach("mutation.savepoint")
        self._connection.deadline_us = None if limit_us is None else monotonic_us() + limit_us
        try:
            value = drive(body(tx), tx, context, self._stub)
        except StoreFault:
            raise
        except BaseException as error:  # whatever a function raises is its own failure
            self._connection.deadline_us = None
            if not raw.in_transaction:
                raise Definite(error if isinstance(error, Exception) else TransactionLost(said(error)), at) from error
            raw.execute(_BACK)
            raw.execute(_RELEASE)
            self._writer.rewind(mark)
            reach("mutation.failed_rolled_back")
            return None, error
        finally:
            tx.end()
            self._connection.deadline_us = None
        reach("mutation.body_done")
        try:
            finish(value)
        except KeyConflict as error:  # the body scheduled a job under the very key of its own call
            raw.execute(_BACK)
            raw.execute(_RELEASE)
            self._writer.rewind(mark)
            return None, error
        raw.execute(_RELEASE)
        reach("mutation.released")
        return value, None
