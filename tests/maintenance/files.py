"""The kept files of releases past, and what stands in a database file, read without the code under test."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parents[1] / "fixtures"
KEPT: Final = {int(path.stem.partition("-")[2]): path for path in sorted(FOLDER.glob("schema-*.db"))}


def copy_of(version: int, path: Path) -> Path:
    """Copy a kept file, or make an empty one for version 0, and return its path."""
    if version == 0:
        path.touch(0o600)
    else:
        shutil.copyfile(KEPT[version], path)
        path.chmod(0o600)
    return path


class Content(NamedTuple):
    """All of a file: its version, its schema, and every row of every table."""

    version: int
    schema: tuple[tuple[Any, ...], ...]
    rows: dict[str, list[tuple[Any, ...]]]


def content(path: Path) -> Content:
    """Read all of a file."""
    with closing(sqlite3.connect(path)) as file:
        file.text_factory = bytes
        names = [name.decode() for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return Content(
            file.execute("PRAGMA user_version").fetchone()[0],
            tuple(sorted(file.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"), key=repr)),
            {name: sorted(file.execute(f'SELECT * FROM "{name}"'), key=repr) for name in sorted(names)},
        )


def jobs(path: Path) -> list[dict[str, Any]]:
    """Read the jobs table, a dict for each row."""
    with closing(sqlite3.connect(path)) as file:
        file.text_factory = lambda text: text.decode("utf-8", "replace")
        cursor = file.execute("SELECT * FROM _scheduler_jobs ORDER BY seq")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def run(path: Path, *sql: str) -> None:
    """Change a file behind the scheduler's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for statement in sql:
            file.execute(statement)
