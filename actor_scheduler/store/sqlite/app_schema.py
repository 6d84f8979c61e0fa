"""The app's own schema: declared steps, each applied once, in order, and never changed afterwards."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from actor_scheduler.errors import SchemaError
from actor_scheduler.store.sqlite.faults import for_caller
from actor_scheduler.store.sqlite.fence import Fence, Mode, is_ours, ours
from actor_scheduler.store.sqlite.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_NUMBERED: Final = re.compile(r"(\d+)[_-].*\.sql", re.ASCII)


@dataclass(frozen=True, slots=True)
class SchemaStep:
    """One numbered piece of SQL."""

    name: str
    sql: str

    @property
    def digest(self) -> str:
        """The SHA-256 of the text: a step that changed after it was applied is found by it."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_steps(source: str | Path) -> list[SchemaStep]:
    """Return the steps of one declaration: SQL text, a file, or a folder of numbered files (001_what.sql).

    Raises SchemaError for a path that does not exist, and for numbers that are not 1, 2, 3, … without a gap.
    """
    if isinstance(source, str):
        return [SchemaStep("inline", source)]
    if source.is_file():
        return [SchemaStep(source.name, source.read_text("utf-8"))]
    if not source.is_dir():
        msg = f"schema path {source} does not exist"
        raise SchemaError(msg)
    numbered = sorted(
        (int(found.group(1)), path) for path in source.iterdir() if (found := _NUMBERED.fullmatch(path.name))
    )
    if [number for number, _ in numbered] != list(range(1, len(numbered) + 1)):
        msg = f"the SQL files in {source} must be numbered 001_…, 002_…, without gaps or doubles"
        raise SchemaError(msg)
    return [SchemaStep(path.name, path.read_text("utf-8")) for _, path in numbered]


def statements(sql: str) -> Iterator[str]:
    """Yield the statements of a script; a trigger's body stays in one piece."""
    start = 0
    for end in (at for at, char in enumerate(sql, 1) if char == ";"):
        if sqlite3.complete_statement(sql[start:end]):
            yield sql[start:end]
            start = end
    if re.sub(r"--[^\n]*|/\*.*?\*/|\s", "", sql[start:], flags=re.DOTALL):
        yield sql[start:]


def apply_steps(connection: sqlite3.Connection, fence: Fence, steps: Sequence[SchemaStep], now_us: int) -> int:
    """Apply the steps this file does not have yet, all in one transaction, and return how many.

    Raises SchemaError when an applied step has changed or is gone, when a statement fails or is not allowed, or when
    a table refers to the scheduler's own: nothing is applied then.
    """
    connection.execute(ours("BEGIN IMMEDIATE"))
    try:
        applied = connection.execute(
            ours("SELECT number, name, sha256 FROM main._scheduler_schema_steps ORDER BY number"),
        ).fetchall()
        if len(applied) > len(steps):
            msg = f"the file has {len(applied)} schema steps, the app declares {len(steps)}: steps are only ever added"
            raise SchemaError(msg)
        for (number, name, digest), step in zip(applied, steps, strict=False):
            if digest != step.digest:
                msg = (
                    f"schema step {number} ({name}) has changed since it was applied: "
                    "leave it as it was and add a new step (in development, delete the file)"
                )
                raise SchemaError(msg)
        for number, step in enumerate(steps[len(applied) :], len(applied) + 1):
            _apply(connection, fence, number, step)
            connection.execute(
                ours("INSERT INTO main._scheduler_schema_steps VALUES (?, ?, ?, ?)"),
                (number, step.name, step.digest, now_us),
            )
        _refuse_references(connection)
        connection.execute(ours("COMMIT"))
    except BaseException:
        fence.mode = Mode.OURS
        if connection.in_transaction:
            connection.execute(ours("ROLLBACK"))
        raise
    return len(steps) - len(applied)


def _apply(connection: sqlite3.Connection, fence: Fence, number: int, step: SchemaStep) -> None:
    for statement in statements(step.sql):
        fence.mode = Mode.SCHEMA
        try:
            connection.execute(statement)
        except sqlite3.Error as error:
            reason = for_caller(error, fence.refused)
            msg = f"schema step {number} ({step.name}) failed at {statement.strip()[:80]!r}: {reason}"
            raise SchemaError(msg) from error
        finally:
            fence.mode = Mode.OURS


def _refuse_references(connection: sqlite3.Connection) -> None:
    """Refuse what the fence can't see: a table renamed to a name of ours, a foreign key to a table of ours."""
    tables = connection.execute(ours("SELECT name FROM main.sqlite_schema WHERE type = 'table'")).fetchall()
    for (table,) in tables:
        if is_ours(table) and table not in TABLES:
            msg = f"table {table} has a name that is reserved for the scheduler"
            raise SchemaError(msg)
    for (table,) in tables:
        quoted = table.replace('"', '""')
        for row in connection.execute(ours(f'PRAGMA main.foreign_key_list("{quoted}")')):
            if is_ours(row[2]):
                msg = f"table {table} has a foreign key to {row[2]}, which is the scheduler's: store the job id as text"
                raise SchemaError(msg)
