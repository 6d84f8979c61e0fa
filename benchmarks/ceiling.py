"""The ceiling: the tightest raw prototype of the durable work, to measure the product against.

It does the durable work, and all of it:

* one SQLite file, WAL, the same `synchronous` and cache; one writer thread with its own `sqlite3` connection;
* a row per job with everything a run needs and leaves behind: sequence number, nonce, path, kind, queue, state, the
  three times it is scheduled with, encoded arguments, and, once it ran, attempt, boot, start and completion time;
* the partial index on (queue, fire_at_us, seq) of pending jobs, through which due jobs are found in order;
* nobody is answered, and no action starts, before the commit that holds the job or the claim;
* group commit: everything asked for while a turn commits goes into the next one, with one
  `call_soon_threadsafe` for the whole turn;
* a due action is claimed, run in a task of its own (it might await anything), and its completion is recorded; claims
  and completions share turns;
* a due mutation, and a live one, is one savepoint; a due one's completion is written inside it, so it takes effect
  exactly once.

It does nothing else.  No validation, no keys, no cancel, no paths looked up with care, no contexts, no limits on SQL
or time, no authorizer, no error handling at all: any exception ends the benchmark.  No index in memory: one number,
the earliest fire time.  A mutation is a plain function instead of a coroutine.  Recovery after a crash is left out,
though the rows would allow it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from pathlib import Path

    Execute = Callable[..., sqlite3.Cursor]
    PlainMutation = Callable[..., Any]  # (execute, **args)
    PlainAction = Callable[..., Coroutine[Any, Any, Any]]  # (**args)

_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS jobs (
        seq INTEGER PRIMARY KEY, nonce INTEGER NOT NULL, path TEXT NOT NULL, kind TEXT NOT NULL, queue TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending', fire_at_us INTEGER NOT NULL, scheduled_at_us INTEGER NOT NULL,
        created_at_us INTEGER NOT NULL, args BLOB NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, boot INTEGER,
        started_at_us INTEGER, completed_at_us INTEGER, result BLOB
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS jobs_due ON jobs (queue, fire_at_us, seq) WHERE state = 'pending'",
)
_INSERT: Final = (
    "INSERT INTO jobs (seq, nonce, path, kind, queue, fire_at_us, scheduled_at_us, created_at_us, args)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_DUE: Final = (
    "SELECT seq, path, args FROM jobs WHERE queue = ? AND state = 'pending' AND fire_at_us <= ?"
    " ORDER BY fire_at_us, seq LIMIT ?"
)
_NEXT: Final = "SELECT fire_at_us FROM jobs WHERE queue = ? AND state = 'pending' ORDER BY fire_at_us, seq LIMIT 1"
_CLAIM: Final = "UPDATE jobs SET state = 'in_progress', attempt = 1, boot = 1, started_at_us = ? WHERE seq = ?"
_COMPLETE: Final = "UPDATE jobs SET state = 'success', completed_at_us = ?, result = ? WHERE seq = ?"
_COMPLETE_MUTATION: Final = (
    "UPDATE jobs SET state = 'success', attempt = 1, boot = 1, started_at_us = ?, completed_at_us = ?, result = ?"
    " WHERE seq = ?"
)
_NEVER_US: Final = 1 << 62
_SIGN: Final = 1 << 63


class Batch:
    """What one turn is asked for."""

    __slots__ = ("calls", "completions", "due", "replies", "rows")

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.calls: list[tuple[PlainMutation, dict[str, Any], asyncio.Future[Any]]] = []
        self.completions: list[tuple[Any, ...]] = []
        self.replies: list[tuple[asyncio.Future[Any], Any]] = []  # with what they are answered after the commit
        self.due = False


class Ceiling:
    """One file, one writer thread. Used from one event loop."""

    def __init__(
        self,
        path: Path,
        *,
        schema: Iterable[str] = (),
        mutations: dict[str, PlainMutation] | None = None,
        actions: dict[str, PlainAction] | None = None,
        synchronous: str = "FULL",
        group: int = 1_000,
    ) -> None:
        self._mutations = mutations or {}
        self._actions = actions or {}
        self._group = group  # due jobs per turn
        self._raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
        for pragma in ("journal_mode = WAL", f"synchronous = {synchronous}", "cache_size = -16384"):
            self._raw.execute(f"PRAGMA {pragma}")
        for statement in (*_SCHEMA, *schema):
            self._raw.execute(statement)
        self._loop = asyncio.get_running_loop()
        self._turns: SimpleQueue[Batch | None] = SimpleQueue()
        self._seqs = itertools.count(1)
        self._packer = msgpack.Packer()
        self._batch = Batch()  # collects while a turn is under way
        self._busy = False  # a turn is under way, or will be at the end of this pass of the loop
        self._earliest_us = _NEVER_US
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0  # due jobs whose completion is not durable yet, of those `ended` waits for
        self._ended: asyncio.Future[None] | None = None
        self._thread = threading.Thread(target=self._write, name="ceiling", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the file."""
        if self._timer is not None:
            self._timer.cancel()
        self._turns.put(None)
        self._thread.join()
        self._raw.close()

    # ------------------------------------------------------------ asked for, on the loop

    def schedule(self, fire_at_us: int, path: str, args: dict[str, Any]) -> asyncio.Future[int]:
        """Store one job; the future is done, with its number, once the job is durable."""
        reply: asyncio.Future[int] = self._loop.create_future()
        row = self._row(fire_at_us, path, args)
        batch = self._batch
        batch.rows.append(row)
        batch.replies.append((reply, row[0]))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._flush)
        return reply

    def schedule_many(self, jobs: Iterable[tuple[int, str, dict[str, Any]]]) -> asyncio.Future[list[int]]:
        """Store jobs, all or none."""
        reply: asyncio.Future[list[int]] = self._loop.create_future()
        rows = [self._row(*job) for job in jobs]
        self._batch.rows.extend(rows)
        self._batch.replies.append((reply, [row[0] for row in rows]))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._flush)
        return reply

    def _row(self, fire_at_us: int, path: str, args: dict[str, Any]) -> tuple[Any, ...]:
        kind = "mutation" if path in self._mutations else "action"
        if fire_at_us < self._earliest_us:
            self._arm(fire_at_us)
        return (
            next(self._seqs), random.getrandbits(64) - _SIGN, path, kind, kind, fire_at_us, fire_at_us,
            time.time_ns() // 1_000, b"\x01" + self._packer.pack(args),
        )  # fmt: skip

    def mutate(self, path: str, args: dict[str, Any]) -> asyncio.Future[Any]:
        """Run a live mutation; the future is done, with its result, once that is durable."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._batch.calls.append((self._mutations[path], args, reply))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._flush)
        return reply

    def ended(self, count: int) -> asyncio.Future[None]:
        """Return a future that is done once this many more due jobs are durably complete."""
        self._left = count
        self._ended = self._loop.create_future()
        return self._ended

    # ------------------------------------------------------------ turns, seen from the loop

    def _flush(self) -> None:
        batch, self._batch = self._batch, Batch()
        self._turns.put(batch)

    def _arm(self, when_us: int) -> None:
        self._earliest_us = when_us
        if self._timer is not None:
            self._timer.cancel()
        wait = max(when_us - time.time_ns() // 1_000, 0) / 1_000_000
        self._timer = self._loop.call_later(wait, self._ring) if when_us < _NEVER_US else None

    def _ring(self) -> None:
        self._timer = None
        self._earliest_us = _NEVER_US
        self._batch.due = True
        if not self._busy:
            self._busy = True
            self._flush()

    def _committed(self, batch: Batch, claimed: list[tuple[Any, ...]], ended: int, next_us: int) -> None:
        for reply, value in batch.replies:
            reply.set_result(value)
        start, create_task = self._attempt, self._loop.create_task
        for seq, path, args in claimed:
            _ = create_task(start(seq, path, args))
        if ended and self._ended is not None:
            self._left -= ended
            if self._left <= 0:
                self._ended.set_result(None)
                self._ended = None
        if next_us < self._earliest_us:
            self._arm(next_us)
        self._busy = False
        waiting = self._batch
        if waiting.rows or waiting.calls or waiting.completions or waiting.due:
            self._busy = True
            self._loop.call_soon(self._flush)  # after those just answered: what they ask next goes along

    async def _attempt(self, seq: int, path: str, args: bytes) -> None:
        value = await self._actions[path](**msgpack.unpackb(args[1:]))
        self._batch.completions.append((time.time_ns() // 1_000, value, seq))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._flush)

    # ------------------------------------------------------------ turns, on the writer's thread

    def _write(self) -> None:
        cursor = self._raw.cursor()
        execute, executemany = cursor.execute, cursor.executemany
        answer = self._loop.call_soon_threadsafe
        while (batch := self._turns.get()) is not None:
            claimed: list[tuple[Any, ...]] = []
            ended, next_us = len(batch.completions), _NEVER_US
            execute("BEGIN IMMEDIATE")
            if batch.rows:
                executemany(_INSERT, batch.rows)
            for mutation, args, reply in batch.calls:
                execute("SAVEPOINT unit")
                value = mutation(execute, **args)
                execute("RELEASE unit")
                batch.replies.append((reply, value))
            if batch.completions:
                executemany(_COMPLETE, batch.completions)
            if batch.due:
                now_us = time.time_ns() // 1_000
                ended += self._run_due(execute, now_us)
                claimed = execute(_DUE, ("action", now_us, self._group)).fetchall()
                if claimed:
                    executemany(_CLAIM, [(now_us, row[0]) for row in claimed])
                found = [execute(_NEXT, (queue,)).fetchone() for queue in ("action", "mutation")]
                next_us = min((row[0] for row in found if row), default=_NEVER_US)
            execute("COMMIT")
            answer(self._committed, batch, claimed, ended, next_us)

    def _run_due(self, execute: Execute, now_us: int) -> int:
        mutations, unpack, clock = self._mutations, msgpack.unpackb, time.time_ns
        due = execute(_DUE, ("mutation", now_us, self._group)).fetchall()
        for seq, path, args in due:
            execute("SAVEPOINT unit")
            value = mutations[path](execute, **unpack(args[1:]))
            execute(_COMPLETE_MUTATION, (now_us, clock() // 1_000, value, seq))
            execute("RELEASE unit")
        return len(due)
