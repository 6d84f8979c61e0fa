"""The fence around app SQL: an authorizer that stands on every connection from the start.

SQLite asks it when a statement is prepared, and only then.  Python caches prepared statements by text, so a cached
one skips it: each of our own statements therefore carries a secret comment (`ours`), and the two never share one.
"""

from __future__ import annotations

import enum
import secrets
import sqlite3
from typing import Final

PREFIXES: Final = ("_scheduler_", "_scheduled_")  # names that are ours
SYSTEM_VIEW: Final = "_scheduled_functions"
JOBS_TABLE: Final = "_scheduler_jobs"

_SECRET: Final = f" /* {secrets.token_hex(16)} */"
_READ_ONLY: Final = f" /* {secrets.token_hex(16)} */"
# The view that reads the jobs table has a name nobody can guess: SQLite reports as the source of a read whatever a
# statement calls its subqueries, so the public name would prove nothing.
INNER_VIEW: Final = f"_scheduler_view_{secrets.token_hex(16)}"
_OK, _DENY = sqlite3.SQLITE_OK, sqlite3.SQLITE_DENY
_NAMES: Final = {
    value: name.removeprefix("SQLITE_").replace("_", " ")
    for name, value in vars(sqlite3).items()
    if name.startswith((
        "SQLITE_CREATE_", "SQLITE_DROP_", "SQLITE_ALTER_", "SQLITE_PRAGMA", "SQLITE_ATTACH", "SQLITE_DETACH",
        "SQLITE_TRANSACTION", "SQLITE_SAVEPOINT", "SQLITE_ANALYZE", "SQLITE_REINDEX", "SQLITE_INSERT", "SQLITE_UPDATE",
        "SQLITE_DELETE", "SQLITE_READ", "SQLITE_FUNCTION", "SQLITE_SELECT", "SQLITE_RECURSIVE",
    ))
}  # fmt: skip
_WRITES: Final = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_ALWAYS: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})
_HIDDEN_TABLES: Final = frozenset(
    {"sqlite_stmt", "sqlite_temp_schema", "sqlite_temp_master", "dbstat"}
)  # show too much
_CATALOG: Final = frozenset({"sqlite_master", "sqlite_schema"})
_TEMP_CATALOG: Final = frozenset({"sqlite_temp_master", "sqlite_temp_schema"})
_REFUSED_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"})
_HARMLESS_PRAGMAS: Final = frozenset({"data_version", "page_size"})  # FTS5 and R-trees ask inside their own queries
_DDL: Final = frozenset({
    sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_VTABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_DROP_VIEW, sqlite3.SQLITE_DROP_TRIGGER, sqlite3.SQLITE_DROP_VTABLE, sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_REINDEX, sqlite3.SQLITE_ANALYZE,
})  # fmt: skip


def ours(sql: str) -> str:
    """Return a statement of ours, marked so that app SQL never shares its prepared form."""
    return sql + _SECRET


def read_only(sql: str) -> str:
    """Return a statement of an app's nested query, marked so that a prepared write with its text is not found."""
    return sql + _READ_ONLY


def is_ours(name: str | None) -> bool:
    """Whether a table, index, view or trigger name is reserved for the scheduler."""
    return name is not None and name.lower().startswith(PREFIXES)


class Mode(enum.Enum):
    """Whose statement is being prepared."""

    OURS = enum.auto()
    READ = enum.auto()
    WRITE = enum.auto()
    SCHEMA = enum.auto()


class Fence:
    """An authorizer callback with a mode. Installed once: installing again would re-prepare every statement."""

    def __init__(self) -> None:
        self.mode = Mode.OURS
        self.refused = ""  # what was refused last, in words

    def __call__(self, action: int, first: str | None, second: str | None, db: str | None, source: str | None) -> int:
        """Answer SQLite whether the statement may do this."""
        if self.mode is Mode.OURS or action in _ALWAYS or self._allows(action, first, second, db, source):
            return _OK
        what = _NAMES.get(action, f"action {action}")
        if first in _CATALOG and action in _WRITES:
            what, first, second = "changing the schema (CREATE, DROP, ALTER)", None, None
        self.refused = " ".join(part for part in (what, first, second) if part)
        return _DENY

    def _allows(self, action: int, first: str | None, second: str | None, db: str | None, source: str | None) -> bool:
        if self.mode is Mode.SCHEMA and (first or "").lower() in _TEMP_CATALOG:
            return True  # renaming and dropping look for references there
        if action == sqlite3.SQLITE_READ:
            return _may_read((first or "").lower(), second or "", source)
        if action == sqlite3.SQLITE_FUNCTION:
            return (second or "").lower() not in _REFUSED_FUNCTIONS
        if action == sqlite3.SQLITE_PRAGMA:
            return (first or "").lower() in _HARMLESS_PRAGMAS and second is None
        if action == sqlite3.SQLITE_UPDATE and first in _CATALOG:
            return True  # a virtual table's constructor asks for it; a statement that says so is refused by SQLite
        if self.mode is Mode.READ or is_ours(first) or is_ours(second):
            return False
        if action in _WRITES:
            return db == "main" and (self.mode is Mode.SCHEMA or not (first or "").lower().startswith("sqlite_"))
        return self.mode is Mode.SCHEMA and action in _DDL


def _may_read(table: str, column: str, source: str | None) -> bool:
    if table in _HIDDEN_TABLES:
        return False
    if not is_ours(table) or table == SYSTEM_VIEW or source == INNER_VIEW:
        return True
    # The view's own parts: its inner view, and, for a bare count(*), the table without any column.
    return table == INNER_VIEW or (table == JOBS_TABLE and not column)
