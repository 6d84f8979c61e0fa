"""The store's database, simulated at its two edges: the thread it runs on, and the calls to sqlite3.

The library itself is the real one, and so is the file.  `Faults` decides for every call whether it works, fails, is
carried out although it fails, or is the last thing this process does.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.store.sqlite.fence import Mode
from tests.faults.injector import BUSY, FSYNC, FULL, IOERR, error
from tests.simulation.loop import SECOND_US, Crash
from tests.simulation.options import SPELLS

if TYPE_CHECKING:
    import asyncio

    from tests.simulation.options import Options
    from tests.simulation.world import World

_DELAYS_US: Final = (1, 1_000, 50_000, 2 * SECOND_US, 40 * SECOND_US)  # the last one passes for a stuck writer
_WRITES: Final = ("INSERT", "UPDATE", "DELETE", "WITH")
_SPELL_US: Final = 20 * SECOND_US


class Faults:
    """What fails in one seed, and when the simulated process dies. `fired` counts by kind, over all lives."""

    def __init__(self, options: Options, fired: Counter[str]) -> None:
        self._rates = dict(options.rates)
        self._options = options
        self._fired = fired
        self._rng = random.Random(f"faults {options.seed}")
        self.die: Callable[[str], None] = lambda _: None  # kills the process; given by the world
        self.mono_us: Callable[[], int] = lambda: 0
        self.on_fault: Callable[[str], None] = lambda _: None  # told before a fault strikes
        self._calls_left: int | None = None  # until the process dies at a call
        self._dies_after = False
        self._full_until_us = self._closed_until_us = -1
        self._until: dict[str, int] = {}
        self._connects = 0

    def begin_life(self, *, calls_left: int | None, after: bool) -> None:
        """Plan one life: at which call it ends, if at one, and what spells it has."""
        self._calls_left, self._dies_after = calls_left, after
        now_us = self.mono_us()
        for spell in self._options.spells:
            if self._rng.random() < SPELLS[spell]:
                until_us = now_us + self._rng.randrange(_SPELL_US)
                if spell == "spell: disk full":
                    self._full_until_us = until_us
                else:
                    self._closed_until_us = until_us

    def heal(self) -> None:
        """Let everything work from now on."""
        self._rates.clear()
        self._calls_left = None
        self._full_until_us = self._closed_until_us = -1

    # ------------------------------------------------------------ decisions

    def strikes(self, name: str) -> bool:
        """Whether a fault strikes now. Drawn as the number of times it does not: one subtraction a call."""
        rate = self._rates.get(name)
        if rate is None:
            return False
        left = self._until.get(name)
        if left is None:
            left = int(self._rng.expovariate(rate))
        if left > 0:
            self._until[name] = left - 1
            return False
        del_ = self._until.pop(name, None)
        del del_
        self._hit(name)
        return True

    def _hit(self, name: str) -> None:
        self._fired[name] += 1
        self.on_fault(name)

    def hop_us(self, name: str) -> int:
        """Return how long a hop to the database takes, or its answer back."""
        return self._rng.choice(_DELAYS_US) if self.strikes(name) else 0

    def check_open(self) -> None:
        """Fail an opening of the file."""
        if self.mono_us() < self._closed_until_us:
            self._hit("spell: file can't be opened")
            raise error("SQLITE_CANTOPEN")
        if self.strikes("opening fails"):
            raise error("SQLITE_CANTOPEN")

    def around(self, connection: SimConnection, sql: str, call: Callable[[], Any]) -> Any:
        """Carry out one call to sqlite3, or don't."""
        if connection.dead:
            raise Crash
        if self._calls_left is not None:
            self._calls_left -= 1
            if self._calls_left <= 0:
                if self._dies_after:
                    call()
                self.die("after a call" if self._dies_after else "before a call")
        if not self._rates and self._full_until_us < 0:
            return call()
        if connection.role == "reader":
            if self.strikes("reading fails"):
                raise error(IOERR)
            return call()
        if sql.startswith("BEGIN"):
            return self._begin(call)
        if sql.startswith("COMMIT"):
            return self._commit(connection, call)
        if sql.startswith("ROLLBACK ") or sql == "ROLLBACK":
            answer = call()
            if not sql.startswith("ROLLBACK TO") and self.strikes("rollback fails"):
                raise error(IOERR)
            return answer
        return self._statement(connection, sql, call)

    def _begin(self, call: Callable[[], Any]) -> Any:
        if self.strikes("busy at begin"):
            raise error(BUSY)
        if self.strikes("I/O error at begin"):
            raise error(IOERR)
        return call()

    def _commit(self, connection: SimConnection, call: Callable[[], Any]) -> Any:
        if self.strikes("commit lost"):
            connection.end_by_itself()
            raise error(IOERR)
        if self.strikes("commit kept"):
            call()
            raise error(FSYNC)
        if self.strikes("commit busy"):
            raise error(BUSY)
        if self.strikes("commit full"):
            raise error(FULL)
        return call()

    def _statement(self, connection: SimConnection, sql: str, call: Callable[[], Any]) -> Any:
        if sql.lstrip().startswith(_WRITES):
            if self.mono_us() < self._full_until_us:
                self._hit("spell: disk full")
                raise error(FULL)
            if self.strikes("disk full"):
                raise error(FULL)
            if self.strikes("transaction lost"):
                connection.end_by_itself()
                raise error(FULL)
            if self.strikes("interrupted"):
                connection.end_by_itself()
                raise error("SQLITE_INTERRUPT")
        if self.strikes("I/O error"):
            if self._rng.random() < 0.5:
                connection.end_by_itself()
            raise error(IOERR)
        return call()


class SimConnection(sqlite3.Connection):
    """A real connection; `dead` once the process that opened it has died."""

    faults: Faults
    role: str
    dead = False
    fence: Any = None

    def set_authorizer(self, callback: Any) -> None:  # type: ignore[override]
        self.fence = callback
        super().set_authorizer(callback)

    def end_by_itself(self) -> None:
        """Roll back as SQLite does inside a failing statement: no authorizer is asked."""
        if not self.in_transaction:
            return
        if self.fence is None:
            super().execute("ROLLBACK")
            return
        mode, self.fence.mode = self.fence.mode, Mode.OURS
        super().execute("ROLLBACK")
        self.fence.mode = mode

    def die(self) -> None:
        """End as the kernel ends it: what was not committed is gone, and the locks with it."""
        if not self.dead:
            self.dead = True
            with contextlib.suppress(sqlite3.Error):
                self.end_by_itself()
            self.close()

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        run = super().execute
        return self.faults.around(self, sql, lambda: run(sql, *args))

    def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
        run = super().executemany
        return self.faults.around(self, sql, lambda: run(sql, rows))

    def cursor(self, factory: Any = None) -> sqlite3.Cursor:  # type: ignore[override]
        return super().cursor(factory or SimCursor)


class SimCursor(sqlite3.Cursor):
    """A cursor of the app's statements."""

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        run, held = super().execute, self.connection
        return held.faults.around(held, sql, lambda: run(sql, *args))

    def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
        run, held = super().executemany, self.connection
        return held.faults.around(held, sql, lambda: run(sql, rows))


class SimSqlite3:
    """The sqlite3 module, whose connections belong to a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, database: Any, **options: Any) -> sqlite3.Connection:
        world = self._world

        def make(*args: Any, **kwargs: Any) -> SimConnection:
            made = SimConnection(*args, **kwargs)
            made.faults = world.faults
            made.role = "reader" if options.get("uri") else "writer"
            world.connections.append(made)
            return made

        world.faults.check_open()
        return sqlite3.connect(database, factory=make, **options)


class SimDb:
    """aiosqlite's thread, without the thread: calls are carried out in order, whether or not anybody still waits."""

    def __init__(self, world: World, connector: Callable[[], sqlite3.Connection]) -> None:
        self._loop: Any = world.loop
        self._faults = world.faults
        self._connector = connector
        self._connection: sqlite3.Connection | None = None
        self._queue: deque[tuple[Callable[[], Any], asyncio.Future[Any] | None]] = deque()
        self._busy = False
        self._running = True

    thread_id = 0

    async def connect(self) -> sqlite3.Connection:
        """Open the connection."""
        try:
            self._connection = await self._put(self._connector)
        except BaseException:
            self.abandon()
            raise
        return self._connection

    async def run(self, work: Callable[[], Any]) -> Any:
        """Run `work` when its turn comes."""
        if not self._running or self._connection is None:
            msg = "Connection closed"
            raise ValueError(msg)
        return await self._put(work)

    async def close(self) -> None:
        """Run what was asked for, then close."""
        if self._connection is not None:
            self._running = False
            await self._put(self._close)

    def abandon(self) -> None:
        """Close when its turn comes, and don't wait."""
        self._running = False
        self._queue.append((self._close, None))
        self._go_on()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _put(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.append((work, future))
        self._go_on()
        return future

    def _go_on(self) -> None:
        if self._queue and not self._busy:
            self._busy = True
            self._loop.call_later(self._faults.hop_us("delay") / SECOND_US, self._step)

    def _step(self) -> None:
        work, future = self._queue.popleft()
        result: Any = None
        failed: BaseException | None = None
        try:
            result = work()
        except Crash:
            raise
        except BaseException as raised:
            failed = raised
        self._busy = False
        self._go_on()
        if future is not None:
            late_us = self._faults.hop_us("late answer")
            self._loop.call_later(late_us / SECOND_US, _answer, future, result, failed)


def _answer(future: asyncio.Future[Any], result: Any, failed: BaseException | None) -> None:
    if future.done():
        return
    if failed is not None:
        future.set_exception(failed)
    else:
        future.set_result(result)
