"""What a query's or a mutation's body works with: its snapshot or its transaction, for as long as it runs."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import ActorSchedulerError, ContextClosed, DatabaseError, ForgottenAwait
from actor_scheduler.store.rows import Result, Row
from actor_scheduler.store.sqlite import cron_rows, cron_runs, job_rows, overview
from actor_scheduler.store.sqlite.drive import Immediate
from actor_scheduler.store.sqlite.faults import StoreFault, code_of, for_caller, is_store_fault, transaction_lost
from actor_scheduler.store.sqlite.fence import Mode, ours, read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from actor_scheduler.crons.records import RunState
    from actor_scheduler.model import JobFilter, NewJob
    from actor_scheduler.store.base import Answer, CancelJob, MutationBody, Params, QueryBody
    from actor_scheduler.store.cron_units import CronUnit
    from actor_scheduler.store.sqlite.connection import Connection
    from actor_scheduler.store.sqlite.crons import CronWriter
    from actor_scheduler.store.sqlite.jobs import JobWriter

_NEST = ours("SAVEPOINT nested")
_UNNEST = ours("RELEASE nested")
_ROLLBACK_NESTED = ours("ROLLBACK TO nested")


class Body:
    """A running query: one read snapshot. Usable only by the body it was made for, on its thread, until it ends."""

    kind = "query"
    _mode = Mode.READ

    def __init__(self, connection: Connection, now_us: int) -> None:
        self.now_us = now_us
        self.outstanding = 0  # ctx calls made and not yet awaited
        self.poisoned: BaseException | None = None
        self._connection = connection
        self._thread_id = threading.get_ident()
        self._closed = False

    # ------------------------------------------------------------ life

    def check_usable(self) -> None:
        """Raise ContextClosed after the end or from elsewhere; raise the poison once there is one."""
        if self._closed:
            msg = f"this ctx belongs to a {self.kind} that has ended"
            raise ContextClosed(msg)
        if self._thread_id != threading.get_ident():
            msg = (
                f"the ctx of a {self.kind} can only be used by the {self.kind} itself, not from another thread or task"
            )
            raise ContextClosed(msg)
        if self.poisoned is not None:
            raise self.poisoned

    def poison(self, error: BaseException) -> None:
        """Let nothing of this body commit, whatever it catches. The first poison stays."""
        if self.poisoned is None:
            self.poisoned = error

    def check_finished(self) -> None:
        """Raise the poison, or ForgottenAwait when a ctx call was made and never awaited."""
        self._check_awaited(0)

    def end(self) -> None:
        """Close the body: every later use of its ctx raises."""
        self._closed = True

    # ------------------------------------------------------------ SQL

    def fetch_one(self, sql: str, params: Params, convert: Callable[[Any], Any] | None = None) -> Answer:
        """Answer the first row, or None."""
        return Immediate(self, self._fetch_one, sql, params, convert)

    def fetch_all(self, sql: str, params: Params, convert: Callable[[Any], Any] | None = None) -> Answer:
        """Answer all rows."""
        return Immediate(self, self._fetch_all, sql, params, convert)

    def _fetch_one(self, sql: str, params: Params, convert: Callable[[Any], Any] | None) -> Any:
        columns, rows = self._run(sql, params, 1)
        row = Row(columns, rows[0]) if rows else None
        return convert(row) if convert is not None else row

    def _fetch_all(self, sql: str, params: Params, convert: Callable[[Any], Any] | None) -> Any:
        columns, values = self._run(sql, params, -1)
        rows = [Row(columns, row) for row in values]
        return convert(rows) if convert is not None else rows

    def _run(self, sql: str, params: Params, count: int) -> tuple[dict[str, int], list[tuple[Any, ...]]]:
        """Run one statement of the app behind the fence and return its columns and rows."""
        cursor = self._connection.raw.cursor()
        self._connection.fence.mode = self._mode
        try:
            cursor.execute(self._text(sql), params)
            rows = cursor.fetchall() if count < 0 else cursor.fetchmany(count)
            columns = {column[0]: at for at, column in enumerate(cursor.description or ())}
        except sqlite3.Error as error:
            raise self._judge(error) from error
        else:
            return columns, rows
        finally:
            self._connection.fence.mode = Mode.OURS
            cursor.close()  # a statement left half-way would hold the snapshot

    def _text(self, sql: str) -> str:
        """Return the text to prepare: one that no statement prepared in another mode has."""
        return sql

    def _judge(self, error: sqlite3.Error) -> BaseException:
        """Return what the app sees of a failed statement; poison the body where nothing may go on (trap T1)."""
        if is_store_fault(error):
            self.poison(StoreFault(error))
        elif code_of(error) == sqlite3.SQLITE_FULL or not self._connection.raw.in_transaction:
            self.poison(transaction_lost(error))
        elif code_of(error) == sqlite3.SQLITE_INTERRUPT and self._mode is Mode.WRITE:
            self.poison(for_caller(error, ""))  # its time is up, also for what it would do after catching this
        if self.poisoned is not None:
            return self.poisoned
        return for_caller(error, self._connection.fence.refused)

    # ------------------------------------------------------------ jobs

    def get_job(self, job_id: str) -> Answer:
        """Answer the job, or None."""
        return Immediate(self, job_rows.get, self._connection.raw, job_id)

    def list_jobs(self, which: JobFilter, cursor: str | None, limit: int) -> Answer:
        """Answer one page of jobs, newest first."""
        return Immediate(self, job_rows.page, self._connection.raw, which, cursor, limit)

    def count_jobs(self, which: JobFilter) -> Answer:
        """Answer how many jobs there are."""
        return Immediate(self, job_rows.count, self._connection.raw, which)

    def count_jobs_up_to(self, which: JobFilter, rows: int) -> Answer:
        """Answer how many of the first so many jobs match, and whether those were all."""
        return Immediate(self, job_rows.count_up_to, self._connection.raw, which, rows)

    def overview(self) -> Answer:
        """Answer how many jobs and crons there are, by what they wait for."""
        return Immediate(self, overview.overview, self._connection.raw, self.now_us)

    def upcoming(self, limit: int) -> Answer:
        """Answer what starts next."""
        return Immediate(self, overview.upcoming, self._connection.raw, limit)

    def failed_attempts(self, job_id: str) -> Answer:
        """Answer the attempts of a job that were followed by another."""
        return Immediate(self, job_rows.failed_attempts, self._connection.raw, job_id)

    def get_cron(self, name: str) -> Answer:
        """Answer how a cron stands, or None."""
        return Immediate(self, cron_rows.info, self._connection.raw, name, self.now_us)

    def list_crons(self, prefix: str, after: str | None, limit: int) -> Answer:
        """Answer one page of crons, by name."""
        return Immediate(self, cron_rows.page, self._connection.raw, prefix, after, limit, self.now_us)

    def cron_runs(self, name: str | None, limit: int, before_us: int | None, state: RunState | None = None) -> Answer:
        """Answer what became of the newest ticks of a cron, or of all crons."""
        return Immediate(self, cron_runs.runs, self._connection.raw, name, limit, before_us, state)

    def cron_runs_page(self, name: str | None, state: RunState | None, cursor: str | None, limit: int) -> Answer:
        """Answer one page of what became of ticks, newest first."""
        return Immediate(self, cron_runs.page, self._connection.raw, name, state, cursor, limit)

    def manifests(self, limit: int) -> Answer:
        """Answer the newest manifests."""
        return Immediate(self, cron_rows.manifests, self._connection.raw, limit)

    def manifest_specs(self, version: int) -> Answer:
        """Answer the definitions of a manifest."""
        return Immediate(self, cron_rows.specs, self._connection.raw, version)

    def due_jobs(self, seqs: Sequence[int]) -> Answer:
        """Answer what the next attempts of these jobs need, by sequence number; without those not pending any more."""
        return Immediate(self, job_rows.due_many, self._connection.raw, seqs, self.now_us)

    # ------------------------------------------------------------ nesting

    def nested_query(self, body: QueryBody) -> Answer:
        """Answer what a nested query returns; it reads what this body reads, and can't write."""
        return Immediate(self, self._nested_query, body)

    async def _nested_query(self, body: QueryBody) -> Any:
        mode, outstanding = self._mode, self.outstanding
        self._mode = Mode.READ
        try:
            value = await body(self)
        finally:
            self._mode = mode
        self._check_awaited(outstanding)
        return value

    def _check_awaited(self, outstanding: int) -> None:
        if self.poisoned is not None:
            raise self.poisoned
        if self.outstanding != outstanding:
            msg = f"you forgot await: {self.outstanding - outstanding} ctx call(s) were made and never awaited"
            raise ForgottenAwait(msg)


class MutationTx(Body):
    """A running mutation: its savepoint in the turn's transaction."""

    kind = "mutation"
    _mode = Mode.WRITE

    def __init__(self, connection: Connection, writer: JobWriter, crons: CronWriter, job_seq: int | None) -> None:
        super().__init__(connection, writer.now_us)
        self.job_seq = job_seq
        self._writer = writer
        self._crons = crons

    def _text(self, sql: str) -> str:
        # In a nested query: a prepared write of the mutation would skip the fence.
        return sql if self._mode is Mode.WRITE else read_only(sql)

    def execute(self, sql: str, params: Params) -> Answer:
        """Answer a Result."""
        return Immediate(self, self._execute, sql, params)

    def executemany(self, sql: str, rows: Iterable[Params]) -> Answer:
        """Answer a Result over all rows."""
        return Immediate(self, self._executemany, sql, rows)

    def _execute(self, sql: str, params: Params) -> Result:
        cursor = self._connection.raw.cursor()
        self._connection.fence.mode = Mode.WRITE
        try:
            cursor.execute(sql, params)
            if cursor.description is not None:  # a SELECT, or RETURNING: complete it, else it would be half done
                cursor.fetchall()
            return Result(cursor.rowcount, cursor.lastrowid)
        except sqlite3.Error as error:
            raise self._judge(error) from error
        finally:
            self._connection.fence.mode = Mode.OURS
            cursor.close()

    def _executemany(self, sql: str, rows: Iterable[Params]) -> Result:
        given = list(rows)  # the app's own iterator must not run while the fence stands in app mode
        raw = self._connection.raw
        self._guarded(raw.execute, _NEST)  # so that a broken constraint undoes the rows before it, too
        try:
            result = self._run_many(sql, given)
        except DatabaseError:
            if raw.in_transaction:
                self._guarded(raw.execute, _ROLLBACK_NESTED)
                self._guarded(raw.execute, _UNNEST)
            raise
        self._guarded(raw.execute, _UNNEST)
        return result

    def _run_many(self, sql: str, given: list[Params]) -> Result:
        cursor = self._connection.raw.cursor()
        self._connection.fence.mode = Mode.WRITE
        try:
            cursor.executemany(sql, given)
            return Result(cursor.rowcount, cursor.lastrowid)
        except sqlite3.Error as error:
            raise self._judge(error) from error
        finally:
            self._connection.fence.mode = Mode.OURS
            cursor.close()

    def insert_job(self, new: NewJob) -> Answer:
        """Answer the id of a job that commits, or rolls back, with this mutation."""
        return Immediate(self, self._guarded, self._writer.insert_one, new)

    def insert_jobs(self, new: Sequence[NewJob]) -> Answer:
        """Answer the ids of jobs that commit, or roll back, with this mutation; if one is refused, none is stored."""
        return Immediate(self, self._guarded, self._insert_all, new)

    def _insert_all(self, new: Sequence[NewJob]) -> list[str]:
        raw, mark = self._connection.raw, self._writer.mark()
        self._guarded(raw.execute, _NEST)
        try:
            ids = self._writer.insert(new)
        except ActorSchedulerError:
            self._guarded(raw.execute, _ROLLBACK_NESTED)
            self._guarded(raw.execute, _UNNEST)
            self._writer.rewind(mark)
            raise
        raw.execute(_UNNEST)
        return ids

    def cancel_job(self, which: CancelJob) -> Answer:
        """Answer whether the job will never start. The running job itself has started: False, and no harm."""
        return Immediate(self, self._guarded, self._writer.steering.cancel, which, self.now_us, self.job_seq)

    def retry_job(self, job_id: str) -> Answer:
        """Answer whether the job was failed and is pending again."""
        return Immediate(self, self._guarded, self._writer.steering.retry, job_id, self.now_us)

    def promote_job(self, job_id: str) -> Answer:
        """Answer whether the job was pending, and is due now. The running job itself has started: False."""
        return Immediate(self, self._guarded, self._writer.steering.promote, job_id, self.now_us, self.job_seq)

    def drop_job(self, job_id: str) -> Answer:
        """Answer whether the job had ended and is forgotten."""
        return Immediate(self, self._guarded, self._writer.steering.drop, job_id)

    def cancel_jobs(self, which: JobFilter, cursor: str | None, limit: int) -> Answer:
        """Answer a Swept of one page: the pending among these jobs are canceled, but for the one that asks."""
        return Immediate(
            self, self._guarded, self._writer.steering.cancel_many, which, cursor, limit, self.now_us, self.job_seq
        )

    def retry_jobs(self, which: JobFilter, cursor: str | None, limit: int) -> Answer:
        """Answer a Swept of one page: the failed among these jobs are pending again."""
        return Immediate(self, self._guarded, self._writer.steering.retry_many, which, cursor, limit, self.now_us)

    def drop_jobs(self, which: JobFilter, cursor: str | None, limit: int) -> Answer:
        """Answer a Swept of one page: those among these jobs that have ended are forgotten."""
        return Immediate(self, self._guarded, self._writer.steering.drop_many, which, cursor, limit)

    def change_cron(self, unit: CronUnit) -> Answer:
        """Answer what the unit answers; it commits, or rolls back, with this mutation."""
        return Immediate(self, self._guarded, self._crons.apply, unit, self.job_seq)

    def _guarded(self, work: Callable[..., Any], *args: Any) -> Any:
        try:
            return work(*args)
        except sqlite3.Error as error:
            raise self._judge(error) from error

    def nested(self, body: MutationBody) -> Answer:
        """Answer what a nested mutation returns; if it raises, only its own writes and jobs are undone."""
        return Immediate(self, self._nested, body)

    async def _nested(self, body: MutationBody) -> Any:
        raw, outstanding, mark = self._connection.raw, self.outstanding, self._writer.mark()
        self._guarded(raw.execute, _NEST)
        try:
            value = await body(self)
            self._check_awaited(outstanding)
        except BaseException:
            if raw.in_transaction:
                self._guarded(raw.execute, _ROLLBACK_NESTED)
                self._guarded(raw.execute, _UNNEST)
            self._writer.rewind(mark)
            raise
        self._guarded(raw.execute, _UNNEST)
        reach("mutation.body_done")
        return value
