"""What an error of SQLite means for the transaction, and for those who wait for it."""

from __future__ import annotations

import sqlite3
from typing import Final

from actor_scheduler.errors import (
    DatabaseError,
    IntegrityError,
    SqlRefused,
    StoreFull,
    StoreUnavailable,
    TimeLimitExceeded,
    TransactionLost,
)

_PRIMARY: Final = 0xFF  # an extended result code holds the primary one in its low byte
_STORE_FAULTS: Final = frozenset({
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM,
})  # fmt: skip


class StoreFault(Exception):
    """The file or the disk failed under a statement: nobody's function is to blame."""

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(describe(error))
        self.error = error


def code_of(error: sqlite3.Error) -> int:
    """Return the primary result code; 0 for an error of Python's sqlite3 module itself."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY


def describe(error: sqlite3.Error) -> str:
    """Return the error with SQLite's own name for it."""
    return f"{getattr(error, 'sqlite_errorname', None) or type(error).__name__}: {error}"


def is_store_fault(error: sqlite3.Error) -> bool:
    """Whether the file must be reopened before anything else is trusted."""
    return code_of(error) in _STORE_FAULTS


def for_caller(error: sqlite3.Error, refused: str) -> DatabaseError | StoreUnavailable:
    """Return our error for a failed statement of the app; the original becomes its cause."""
    match code_of(error):
        case sqlite3.SQLITE_AUTH:
            return SqlRefused(
                f"{refused} is not allowed here: queries may only read, mutations may only INSERT, UPDATE and DELETE "
                "on the app's own tables, and tables are made in App.schema(…)",
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return IntegrityError(str(error))
        case sqlite3.SQLITE_INTERRUPT:
            return TimeLimitExceeded("the statement ran past the function's time limit and was interrupted")
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"nothing was written: {describe(error)}")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreUnavailable(f"another connection held the file for too long: {describe(error)}")
        case _:
            return DatabaseError(describe(error))


def transaction_lost(error: sqlite3.Error) -> DatabaseError | StoreUnavailable:
    """Return our error for a statement after which SQLite had ended the whole transaction by itself (trap T1)."""
    match code_of(error):
        case sqlite3.SQLITE_INTERRUPT | sqlite3.SQLITE_FULL | sqlite3.SQLITE_BUSY:
            return for_caller(error, "")
        case _:
            return TransactionLost(f"SQLite ended the transaction, so nothing of this call is kept: {error}")
