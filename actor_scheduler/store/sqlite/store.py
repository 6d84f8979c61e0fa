"""The SQLite store: the port's five methods over one writer thread and a few readers."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from actor_scheduler.clock import monotonic_us
from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import ActorSchedulerError, StoreFull, StoreUnavailable
from actor_scheduler.failures import log_failure
from actor_scheduler.ids import NonceSource, SystemNonces
from actor_scheduler.limits import DEATHS_MAX, WAL_BYTES_WARN
from actor_scheduler.model import Again, Failed
from actor_scheduler.store.base import Found, Host, QueryBody, Refill, Refused, TurnResult, Unit
from actor_scheduler.store.sqlite.app_schema import SchemaStep, apply_steps
from actor_scheduler.store.sqlite.blame import NOBODY, BlameFile
from actor_scheduler.store.sqlite.connection import Connection, FileIdentity, advise, connect_writer, prepare_file
from actor_scheduler.store.sqlite.faults import code_of, describe
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.jobs import SEQ_BLOCK, JobWriter
from actor_scheduler.store.sqlite.lock import Known, OwnerLock
from actor_scheduler.store.sqlite.readers import ReaderPool
from actor_scheduler.store.sqlite.recovery import (
    CRASH_LOOP,
    begin_boot,
    blame,
    canceling,
    found,
    release_unstarted,
    settle_lanes,
)
from actor_scheduler.store.sqlite.schema import make_view, migrate
from actor_scheduler.store.sqlite.thread import Db, ThreadDb
from actor_scheduler.store.sqlite.turn import TurnRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from actor_scheduler.clock import Clock

log = logging.getLogger("actor_scheduler")

Synchronous: TypeAlias = Literal["FULL", "NORMAL", "EXTRA", "OFF"]
_TURNS_PER_LOOK: Final = 256  # between two looks at the size of the log
_READER_US: Final = 20_000_000  # how long a reopening waits for a foreign reader
_READERS: Final = 4  # queries at once; each is one thread, and two cores gain nothing from more


class SqliteStore:
    """Jobs in one SQLite file in WAL mode. `synchronous=FULL`: what was acknowledged survives a power cut."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        host: Host,
        clock: Clock,
        *,
        schema: Sequence[SchemaStep] = (),
        create: bool = True,
        synchronous: Synchronous = "FULL",
        lock_timeout_us: int = 10_000_000,
        nonces: NonceSource | None = None,
        make_db: Callable[[Callable[[], sqlite3.Connection]], Db] = ThreadDb,
    ) -> None:
        self.path: Final = Path(path).resolve()  # a symbolic link and its target are one file, with one lock
        self._host = host
        self._clock = clock
        self._schema = schema
        self._create = create
        self._synchronous = synchronous
        self._lock_timeout_us = lock_timeout_us
        self._nonces = nonces if nonces is not None else SystemNonces()
        self._make_db = make_db
        self._lock = OwnerLock(self.path)
        self._blame = BlameFile(self.path)
        self._identity: FileIdentity | None = None
        self._log_path = f"{self.path}-wal"
        self._log_is_large = False
        self._in_the_way_us: int | None = None  # since when a reader has kept a reopening from its checkpoint
        self._turns = 0
        self._readable = False
        self._db: Db | None = None
        self._connection: Connection | None = None
        self._writer: JobWriter | None = None
        self._readers = ReaderPool(self.path, _READERS, make_db, self.check_file)
        self.runner: TurnRunner | None = None
        self.boot = 0

    # ------------------------------------------------------------ opening and closing

    async def open(self) -> Found:
        """Take the file, migrate it, apply the app's schema, number this boot and judge interrupted attempts.

        Raises DatabaseLocked, SchemaError or StoreUnavailable, each in one sentence; nothing is held then.
        """
        prepare_file(self.path, create=self._create)
        await self._lock.acquire(self._lock_timeout_us)
        reach("boot.locked")
        try:
            advise(self.path)
            self._identity = FileIdentity(self.path)
            await self._connect(self._connect_first)
            assert self._db is not None
            opened = await self._db.run(self._boot)
        except sqlite3.Error as error:
            await self._let_go()
            msg = f"{self.path} can't be used: {describe(error)}"
            raise (StoreFull if code_of(error) == sqlite3.SQLITE_FULL else StoreUnavailable)(msg) from error
        except BaseException:
            await self._let_go()
            raise
        self._readable = True
        reach("boot.ready")
        return opened

    async def _connect(self, connector: Callable[[], sqlite3.Connection]) -> None:
        self._db = self._make_db(connector)
        try:
            raw = await self._db.connect()
        except BaseException:
            self._db = None
            raise
        self._connection = Connection(raw)
        reach("boot.connected")

    def _connect_again(self) -> sqlite3.Connection:
        return connect_writer(self.path, self._synchronous)

    def _connect_first(self) -> sqlite3.Connection:
        """Bring the file up to date on a connection of its own, then open the writer's.

        A statement that a schema step has prepared can so never be found by a mutation with the same text.
        """
        first = Connection(self._connect_again())
        try:
            migrate(first.raw, self._clock.now_us())
            applied = apply_steps(first.raw, first.fence, self._schema, self._clock.now_us())
        finally:
            first.raw.close()
        if applied:
            log.info("applied %d schema step(s) to %s", applied, self.path)
        reach("boot.migrated")
        return self._connect_again()

    def _boot(self) -> Found:
        connection = self._connection
        assert connection is not None
        raw, now_us = connection.raw, self._clock.now_us()
        make_view(raw)
        boot = begin_boot(raw, now_us, self._host)
        self.boot = boot.number
        for job, outcome in boot.interrupted:
            if isinstance(outcome, Failed | Again):
                log_failure(job, outcome)
            else:
                log.warning("%s %s was running when the process ended; it was canceled", job.path, job.id)
        suspect = self._blame.open()
        if suspect != NOBODY:
            deaths, name, failed = blame(raw, suspect, now_us, self._host)
            if deaths:
                log.warning("%s was running when the process died (%d of %d)", name, deaths, DEATHS_MAX)
            if failed is not None:
                log_failure(failed, CRASH_LOOP)
                boot = boot._replace(interrupted=(*boot.interrupted, (failed, CRASH_LOOP)))
        self._blame.note(NOBODY)
        self._remember(raw)
        self._make_runner(boot.next_seq, boot.next_seq + SEQ_BLOCK)
        reach("boot.recovered")
        return found(raw, self._host.routing, now_us, boot)

    def _remember(self, raw: sqlite3.Connection) -> None:
        """Compare the database with what the last start has written down beside it, and write down this one."""
        uuid = str(raw.execute(ours("SELECT value FROM main._scheduler_meta WHERE name = 'db_uuid'")).fetchone()[0])
        known = self._lock.known
        if known is not None and known.uuid != uuid:
            log.warning("%s is another database than the one that was here at the last start", self.path)
        elif known is not None and known.epoch >= self.boot:
            log.warning(
                "%s is older than at its last start (start %d after start %d): an older copy was put in its place, or "
                "its -wal file was lost; what was acknowledged since then is not in it",
                self.path, self.boot - 1, known.epoch,
            )  # fmt: skip
        self._lock.remember(Known(uuid, self.boot))

    def check_file(self) -> None:
        """Raise StoreUnavailable when the path leads to another file than the one that was opened, or to none."""
        self._lock.check_file()
        assert self._identity is not None
        self._identity.check()

    def _make_runner(self, next_seq: int, reserved: int) -> None:
        assert self._connection is not None
        raw = self._connection.raw
        self._writer = JobWriter(raw, self.boot, self._nonces, self._host, canceling=canceling(raw))
        self._writer.start_at(next_seq, reserved)
        settle_lanes(raw, self._writer, self._clock.now_us())
        self.runner = TurnRunner(self._connection, self._writer, self._host, self._clock, self._blame)

    async def reopen(self, running: Sequence[tuple[int, int]]) -> Found:
        """Start again from the file after an error of unknown outcome.

        The log is checkpointed before anything is acknowledged again: pages that a failed flush left marked clean in
        memory would otherwise be trusted.  Raises StoreUnavailable when the file is not the one that was opened, or
        can't be used.
        """
        self._readable = False
        self._readers.abandon()
        if self._db is not None:
            self._db.abandon()
            self._db = None
        self.check_file()
        try:
            await self._connect(self._connect_again)
            assert self._db is not None
            found = await self._db.run(partial(self._recover, frozenset(running)))
        except sqlite3.Error as error:
            msg = f"{self.path} can't be reopened: {describe(error)}"
            raise StoreUnavailable(msg) from error
        self._readable = (
            True  # not before: what a failed flush has left in memory only could be read, and be gone again
        )
        return found

    def _recover(self, running: frozenset[tuple[int, int]]) -> Found:
        assert self._connection is not None
        raw = self._connection.raw
        self._checkpoint_before_answering(raw)
        make_view(raw)
        release_unstarted(raw, self.boot, running)
        reserved = raw.execute(ours("SELECT value FROM main._scheduler_meta WHERE name = 'seq_reserved'")).fetchone()[0]
        self._make_runner(self._writer.next_seq if self._writer is not None else reserved, reserved)
        return found(raw, self._host.routing, self._clock.now_us())

    def _checkpoint_before_answering(self, raw: sqlite3.Connection) -> None:
        """Bring everything that stands in the log into the database, and to disk.

        Raises StoreUnavailable while a reader of another program is in the way; after _READER_US it is given up, and
        said: a reader that never ends must not keep the app down.
        """
        busy = bool(raw.execute(ours("PRAGMA wal_checkpoint(TRUNCATE)")).fetchone()[0])
        if not busy:
            self._in_the_way_us = None
            return
        now_us = monotonic_us()
        if self._in_the_way_us is None:
            self._in_the_way_us = now_us
        if now_us - self._in_the_way_us < _READER_US:
            msg = "another program reads the database, so that its log can't be written back after a failed flush"
            raise StoreUnavailable(msg)
        log.critical("going on with a log that could not be written back after a failed flush: a reader does not end")

    async def close(self, *, checkpoint: bool = True) -> None:
        """Close every connection and give up the file; with `checkpoint`, leave no log behind."""
        if checkpoint and self._db is not None:
            await self._readers.close()
            try:
                await self._db.run(self._checkpoint)
            except sqlite3.Error as error:
                log.warning("the last checkpoint failed, the next start makes up for it: %s", describe(error))
            self._blame.remove()
            reach("shutdown.checkpointed")
        await self._let_go()
        reach("shutdown.closed")

    def _checkpoint(self) -> None:
        assert self._connection is not None
        self._connection.raw.execute(ours("PRAGMA wal_checkpoint(TRUNCATE)")).fetchall()

    async def _let_go(self) -> None:
        self._readable = False
        self._readers.abandon()
        db, self._db, self.runner = self._db, None, None
        try:
            if db is not None:
                await db.close()
        finally:
            self._blame.close()
            self._lock.release()

    def abandon(self) -> None:
        """Give up without waiting for a writer that is stuck; the lock goes with the process."""
        self._readers.abandon()
        if self._db is not None:
            self._db.abandon()

    def busy_with(self) -> str:
        """Return the stack of the writer's thread."""
        frame = sys._current_frames().get(self._db.thread_id) if self._db is not None else None  # noqa: SLF001
        return "".join(traceback.format_stack(frame)) if frame is not None else "(no thread)"

    # ------------------------------------------------------------ work

    def check_process(self) -> None:
        """Raise StoreUnavailable in a forked child of the owner: the writer's thread did not come along."""
        self._lock.check_process()

    async def apply(self, units: Sequence[Unit], refills: Sequence[Refill]) -> TurnResult:
        """Run a turn in one hop to the writer's thread."""
        if self._db is None or self.runner is None:
            return _refused(units, StoreUnavailable("the database is not open"))
        runner = self.runner
        # Not a partial: aiosqlite shows what it runs in its debug log, and arguments of jobs do not belong there.
        return await self._db.run(lambda: self._turn(runner, units, refills))

    async def idle(self) -> None:
        """Return once the writer's thread has done what it was given."""
        if self._db is not None:
            await self._db.run(lambda: None)

    def _turn(self, runner: TurnRunner, units: Sequence[Unit], refills: Sequence[Refill]) -> TurnResult:
        try:
            self.check_file()
        except ActorSchedulerError as error:
            return _refused(units, error)
        self._turns += 1
        if self._turns % _TURNS_PER_LOOK == 0:
            self._look_at_log()
        return runner.run(units, refills)

    def _look_at_log(self) -> None:
        """Say once that the log has grown large: a reader that does not end keeps it from being reset."""
        with contextlib.suppress(OSError):
            size = os.stat(self._log_path).st_size  # noqa: PTH116 - called among the turns
            if size >= WAL_BYTES_WARN and not self._log_is_large:
                log.warning("%s has %d MiB: does a reader, or a backup, not end?", self._log_path, size >> 20)
            self._log_is_large = size >= WAL_BYTES_WARN

    async def query(self, body: QueryBody, limit_us: int | None = None) -> Any:
        """Run a query's body in one read snapshot, beside the writer."""
        if not self._readable:
            msg = "the database is being reopened; nothing was read, try again"
            raise StoreUnavailable(msg)
        return await self._readers.query(body, self._clock.now_us(), limit_us)


def _refused(units: Sequence[Unit], error: ActorSchedulerError) -> TurnResult:
    return TurnResult(replies=[Refused(error) for _ in units], broken=error)
