"""Faults at the sqlite3 boundary: the real store on the real library, with chosen calls made to fail.

`Injector` stands between the store and sqlite3.  A `Fault` names a statement by its beginning, and says which error it
gives, whether the statement was really carried out before, and how often.  A fault that never fired fails the test.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.store.sqlite import connection as opened_by
from actor_scheduler.store.sqlite.fence import Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

IOERR: Final = "SQLITE_IOERR_WRITE"
FSYNC: Final = "SQLITE_IOERR_FSYNC"
FULL: Final = "SQLITE_FULL"
BUSY: Final = "SQLITE_BUSY"
CORRUPT: Final = "SQLITE_CORRUPT"

_EXTENDED: Final = {  # an extended code holds the primary one in its low byte
    "SQLITE_IOERR_WRITE": sqlite3.SQLITE_IOERR | 3 << 8,
    "SQLITE_IOERR_FSYNC": sqlite3.SQLITE_IOERR | 4 << 8,
}


def error(name: str) -> sqlite3.OperationalError:
    """Return the error sqlite3 raises for a result code, with its code and its name."""
    made = sqlite3.OperationalError(f"injected {name}")
    made.sqlite_errorname = name
    made.sqlite_errorcode = _EXTENDED.get(name) or getattr(sqlite3, name)
    return made


@dataclass
class Fault:
    """One planned failure of the statements that begin with `begins`.

    `after`: the statement is carried out, and its answer is lost.  `ends`: SQLite rolls the transaction back by itself,
    as it does for a full disk.  `skip` lets that many pass first; `times` is how often it fires, None for ever.
    """

    begins: str
    name: str = IOERR
    after: bool = False
    ends: bool = False
    skip: int = 0
    times: int | None = 1
    on: str = "writer"
    fired: int = 0

    def hits(self, role: str, sql: str) -> bool:
        """Whether this call fails. Counts the call."""
        if role != self.on or not sql.startswith(self.begins) or (self.times is not None and self.fired >= self.times):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.fired += 1
        return True


@dataclass
class Injector:
    """What is planned to fail, and what the store has asked of sqlite3 so far."""

    faults: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    fail_call: int | None = None  # whatever it is, the call with this number fails once
    fail_call_with: str = IOERR
    fail_call_after: bool = False  # the call is carried out, and its answer is lost
    failed_call: str | None = None

    def plan(self, begins: str, name: str = IOERR, **how: Any) -> Fault:
        """Plan a fault and return it."""
        fault = Fault(begins, name, **how)
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """Let everything work again."""
        for fault in self.faults:
            fault.times = fault.fired

    def count(self, begins: str) -> int:
        """Return how many statements of the writer began so."""
        return sum(times for sql, times in self.counts.items() if sql.startswith(begins))

    def around(self, connection: _Connection, role: str, sql: str, call: Callable[[], Any]) -> Any:
        """Carry out a call to sqlite3, or fail it."""
        if role == "writer":
            self.counts[sql] += 1
            self.calls += 1
            if self.calls == self.fail_call:
                self.failed_call = sql
                if self.fail_call_after:
                    call()
                raise error(self.fail_call_with)
        fault = next((fault for fault in self.faults if fault.hits(role, sql)), None)
        if fault is None:
            return call()
        if fault.after:
            call()
        if fault.ends and connection.in_transaction:
            connection.end_by_itself()
        raise error(fault.name)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand between the store and sqlite3, for every connection made from now on."""
        monkeypatch.setattr(opened_by, "sqlite3", _Sqlite3(self))

    def check_fired(self) -> None:
        """Fail when a planned fault never happened: the test would have shown nothing."""
        for fault in self.faults:
            assert fault.fired, f"the planned {fault.name} at {fault.begins!r} never happened"


class _Sqlite3:
    """The sqlite3 module, with connections that can be made to fail."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, database: Any, **options: Any) -> sqlite3.Connection:
        injector = self._injector
        role = "reader" if options.get("uri") else "writer"

        def make(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            made = _Connection(*args, **kwargs)
            made.injector, made.role = injector, role
            return made

        if fault := next((fault for fault in injector.faults if fault.hits(role, "connect")), None):
            raise error(fault.name)
        return sqlite3.connect(database, factory=make, **options)


class _Connection(sqlite3.Connection):
    injector: Injector
    role: str
    fence: Any = None

    def set_authorizer(self, callback: Any) -> None:  # type: ignore[override]
        self.fence = callback
        super().set_authorizer(callback)

    def end_by_itself(self) -> None:
        """Roll back as SQLite does inside a failing statement: no authorizer is asked."""
        mode, self.fence.mode = self.fence.mode, Mode.OURS
        super().execute("ROLLBACK")
        self.fence.mode = mode

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        run = super().execute
        return self.injector.around(self, self.role, sql, lambda: run(sql, *args))

    def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
        run = super().executemany
        return self.injector.around(self, self.role, sql, lambda: run(sql, rows))

    def cursor(self, factory: Any = None) -> sqlite3.Cursor:  # type: ignore[override]
        return super().cursor(factory or _Cursor)


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        run, held = super().execute, self.connection
        return held.injector.around(held, held.role, sql, lambda: run(sql, *args))

    def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
        run, held = super().executemany, self.connection
        return held.injector.around(held, held.role, sql, lambda: run(sql, rows))


def rows(path: Any, sql: str, params: Any = ()) -> list[tuple[Any, ...]]:
    """Read the file with a connection of its own, whatever the app is doing."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as raw:
        return raw.execute(sql, params).fetchall()
