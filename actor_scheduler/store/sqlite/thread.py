"""Where statements run: on aiosqlite's thread, one hop for a whole turn, or inline for deterministic tests."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import aiosqlite
from aiosqlite.core import _STOP_RUNNING_SENTINEL

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

_STOPPING_SECONDS: Final = 1.0  # for a thread that has nothing left to do


class Db(Protocol):
    """One connection and the thread that alone touches it."""

    async def connect(self) -> sqlite3.Connection:
        """Open the connection on its thread and return it."""
        ...

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` on the connection's thread.

        Cancelling the caller does not stop the work (trap T6): who may be canceled shields the call, and does not
        touch the connection before the work has ended.
        """
        ...

    async def close(self) -> None:
        """Close the connection and end its thread."""
        ...

    def abandon(self) -> None:
        """Have the connection closed when its thread gets to it, and don't wait. For a thread that is stuck."""
        ...

    @property
    def thread_id(self) -> int:
        """The thread on which `work` runs."""
        ...


class ThreadDb:
    """A connection on aiosqlite's own thread, which never keeps the process from exiting."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        self._aio = aiosqlite.Connection(connector, iter_chunk_size=64)
        # aiosqlite's thread is not a daemon: a mutation that never returns would keep the process alive for ever.
        self._aio._thread.daemon = True  # noqa: SLF001 - no public switch (omnilib/aiosqlite#299)

    async def connect(self) -> sqlite3.Connection:
        """Open the connection on its thread and return it."""
        try:
            aio = await self._aio
        except Exception:
            # It has told its thread to stop, and that one answers to this loop, which a failed start may close at once.
            self._aio._thread.join(_STOPPING_SECONDS)  # noqa: SLF001
            raise
        return aio._conn  # noqa: SLF001 - the turn works on the raw connection

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in one hop. A turn split over several awaits would interleave with others and pay a hop each."""
        one_hop: Callable[[Callable[[], T]], Awaitable[T]] = self._aio._execute  # noqa: SLF001 - not public
        return await one_hop(work)

    async def close(self) -> None:
        """Close the connection and end its thread."""
        await self._aio.close()

    def abandon(self) -> None:
        """Queue the close and return at once.

        Not with aiosqlite's own `stop`: its thread would answer to an event loop that may be closed by then.
        """
        aio = self._aio

        def close() -> object:
            if aio._connection is not None:  # noqa: SLF001
                aio._connection.close()  # noqa: SLF001
                aio._connection = None  # noqa: SLF001
            return _STOP_RUNNING_SENTINEL

        aio._running = False  # noqa: SLF001
        aio._tx.put_nowait((None, close))  # noqa: SLF001

    @property
    def thread_id(self) -> int:
        """The ident of aiosqlite's thread."""
        return self._aio._thread.ident or 0  # noqa: SLF001


class InlineDb:
    """A connection on the caller's own thread: no real concurrency, so a seed decides every interleaving."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        self._connector = connector
        self._connection: sqlite3.Connection | None = None
        self._thread_id = 0

    async def connect(self) -> sqlite3.Connection:
        """Open the connection."""
        self._thread_id = threading.get_ident()
        self._connection = self._connector()
        return self._connection

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` after one pass of the loop, as a real hop would let others go first."""
        await asyncio.sleep(0)
        return work()

    async def close(self) -> None:
        """Close the connection."""
        self.abandon()

    def abandon(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def thread_id(self) -> int:
        """The thread that connected."""
        return self._thread_id
