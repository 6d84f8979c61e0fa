"""A few read-only connections: each query gets one snapshot, on a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import StoreUnavailable, bearable
from actor_scheduler.store.sqlite.body import Body
from actor_scheduler.store.sqlite.connection import Connection, connect_reader, equip_reader
from actor_scheduler.store.sqlite.drive import NoLoop, drive, no_loop
from actor_scheduler.store.sqlite.faults import StoreFault, describe
from actor_scheduler.store.sqlite.fence import ours

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from pathlib import Path

    from actor_scheduler.store.base import QueryBody
    from actor_scheduler.store.sqlite.thread import Db

_BEGIN: Final = ours("BEGIN")
_PIN: Final = ours("SELECT 1 FROM main._scheduler_meta LIMIT 1")  # BEGIN alone does not take the snapshot
_END: Final = ours("ROLLBACK")


class Reader:
    """One read-only connection and its thread."""

    def __init__(self, db: Db) -> None:
        self._db = db
        self._connection: Connection | None = None
        self._stub = NoLoop()
        self.usable = True  # False once its snapshot could not be given up: the next query would see the past

    async def open(self) -> None:
        """Connect, on the reader's own thread."""
        raw = await self._db.connect()
        self._connection = Connection(raw)
        await self._db.run(partial(equip_reader, self._connection))

    async def query(self, body: QueryBody, now_us: int, limit_us: int | None, context: Context) -> Any:
        """Drive a query's body in one snapshot, in one hop."""
        return await self._db.run(partial(self._query, body, now_us, limit_us, context))

    def _query(self, body: QueryBody, now_us: int, limit_us: int | None, context: Context) -> Any:
        connection = self._connection
        assert connection is not None
        connection.raw.execute(_BEGIN)
        snapshot = Body(connection, now_us)
        connection.deadline_us = None if limit_us is None else monotonic_us() + limit_us
        try:
            connection.raw.execute(_PIN).fetchone()
            with no_loop(self._stub):
                return drive(body(snapshot), snapshot, context, self._stub)
        except Exception:
            raise
        except BaseException as error:  # SystemExit of a function must not stop the caller's loop
            raise bearable(error) from error
        finally:
            connection.deadline_us = None
            snapshot.end()
            self._give_up_snapshot(connection.raw)

    def _give_up_snapshot(self, raw: sqlite3.Connection) -> None:
        try:
            if raw.in_transaction:
                raw.execute(_END)
        except sqlite3.Error:
            self.usable = False
            raise

    async def close(self) -> None:
        """Close the connection and end its thread."""
        await self._db.close()

    def abandon(self) -> None:
        """Close without waiting."""
        self._db.abandon()


class ReaderPool:
    """Up to `size` readers, opened as they are first needed."""

    def __init__(
        self,
        path: Path,
        size: int,
        make_db: Callable[[Callable[[], sqlite3.Connection]], Db],
        check_file: Callable[[], None],
    ) -> None:
        self._path = path
        self._check_file = check_file
        self._make_db = make_db
        self._places = asyncio.Semaphore(size)
        self._idle: list[Reader] = []
        self._all: list[Reader] = []

    async def query(self, body: QueryBody, now_us: int, limit_us: int | None) -> Any:
        """Run a query's body in one snapshot.

        Raises what the body raises; StoreUnavailable when the file can't be read.
        """
        # Shielded: a canceled caller leaves, the reader goes back to the pool once its work has really ended.
        try:
            return await asyncio.shield(self._query(body, now_us, limit_us, copy_context()))
        except (sqlite3.Error, StoreFault) as error:
            msg = f"the database can't be read: {describe(error) if isinstance(error, sqlite3.Error) else error}"
            raise StoreUnavailable(msg) from error

    async def _query(self, body: QueryBody, now_us: int, limit_us: int | None, context: Context) -> Any:
        async with self._places:
            reader = self._idle.pop() if self._idle else await self._open()
            try:
                return await reader.query(body, now_us, limit_us, context)
            finally:
                if not reader.usable:
                    if reader in self._all:  # not when the pool was emptied meanwhile
                        self._all.remove(reader)
                    reader.abandon()
                elif reader in self._all:
                    self._idle.append(reader)

    async def _open(self) -> Reader:
        reader = Reader(self._make_db(partial(connect_reader, self._path)))
        try:
            await reader.open()
            self._check_file()  # after it was opened: it may be another file under the same name by now (trap T4)
        except BaseException:
            reader.abandon()
            raise
        self._all.append(reader)
        return reader

    async def close(self) -> None:
        """Close every reader; one that is still at work closes when it is done."""
        readers, self._all, self._idle = self._all, [], []
        for reader in readers:
            await reader.close()

    def abandon(self) -> None:
        """Close every reader without waiting."""
        readers, self._all, self._idle = self._all, [], []
        for reader in readers:
            reader.abandon()
