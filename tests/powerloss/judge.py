"""Opens what a power cut left, with the app's own start, and reads what is there."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from actor_scheduler import codec
from actor_scheduler.ids import format_id
from actor_scheduler.store.sqlite import SqliteStore
from actor_scheduler.store.sqlite.thread import InlineDb
from actor_scheduler.testing.clock import VirtualClock
from actor_scheduler.times import to_datetime
from runtime.testing import Harness
from tests.crash.campaign import read_out
from tests.crash.checker import Rule, Violation, check
from tests.crash.functions import make_app, wall_us
from tests.crash.history import History, JobRow, Trace
from tests.powerloss.rules import Content

DB: Final = "app.db"
_LONG_AGO_US: Final = 1_000_000_000_000_000  # in 2001: nothing is due, so a start recovers and dispatches nothing
_OWN: Final = ("_scheduler_meta", "_scheduler_schema_steps")  # a boot's number and times: not the app's content
_TABLES: Final = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
_JOBS: Final = (
    "SELECT seq, nonce, kind, state, args, scheduled_at_us, started_at_us, cause, error, key, idempotency_key, result,"
    " attempt FROM _scheduler_jobs"
)


class Judge:
    """Looks at images in one folder, with one app."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._db = folder / DB
        self._starts = folder.with_name(f"{folder.name}-starts")
        self._app: Any = make_app(str(self._db), str(self._starts), auth=False)
        self._bodies: dict[bytes, Any] = {}  # what arguments and results say, decoded once

    def lay_out(self, image: Mapping[str, bytes]) -> None:
        """Make the folder hold an image, and nothing else."""
        for path in self.folder.iterdir():
            path.unlink()
        for name, data in image.items():
            (self.folder / name).write_bytes(data)

    async def look(self, image: Mapping[str, bytes]) -> Content:
        """Start the app on an image, and return what the file then holds."""
        self.lay_out(image)
        app = self._app
        app._clock = VirtualClock(_LONG_AGO_US)
        app._make_store = partial(SqliteStore, make_db=InlineDb)
        app._synchronous = "OFF"  # nobody cuts the power here
        try:
            await app._start()
            await app._stop(kill=True)
            return self.read()
        except Exception as error:  # whatever it is, the app does not start on this file, or what it holds is no job
            with contextlib.suppress(Exception):
                await app._stop(kill=True)
            return Content(errors=(f"{type(error).__name__}: {error}",))

    async def finish(self, image: Mapping[str, bytes], history: History) -> list[Violation]:
        """Let the app run on from an image until nothing is left to do, and return what is broken then."""
        self.lay_out(image)
        self._starts.write_text("".join(f"{t.op} {t.job} {t.at_us}\n" for t in history.starts), encoding="utf-8")
        async with Harness(self._app, db=self._db, start=to_datetime(wall_us())) as harness:
            await harness.advance(seconds=5)
        ended = replace(history)
        read_out(ended, self._db, self._starts)
        # The virtual clock runs ahead of the one that the functions note.
        return [violation for violation in check(ended) if violation.rule is not Rule.EARLY]

    def read(self) -> Content:
        """Read the file as it is. Nobody may have it open."""
        with closing(sqlite3.connect(self._db)) as file:
            errors = [text for (text,) in file.execute("PRAGMA integrity_check") if text != "ok"]
            errors += [f"foreign key: {row}" for row in file.execute("PRAGMA foreign_key_check")]
            if errors:
                return Content(errors=tuple(errors))
            rows, attempts = [], {}
            for *values, attempt in file.execute(_JOBS):
                row = self._row(*values)
                rows.append(row)
                attempts[row.id] = attempt
            effects = tuple(Trace(*values) for values in file.execute("SELECT op, job, at_us FROM effects"))
            return Content(tuple(rows), attempts, effects, _state(file))

    def _row(
        self, seq: int, nonce: int, kind: Any, state: str, args: bytes, scheduled_at_us: int, started_at_us: int | None,
        cause: str | None, error: str | None, key: str | None, idem: str | None, result: bytes | None,
    ) -> JobRow:  # fmt: skip
        op = self._decoded(args)["body"]["op"]
        gave = self._decoded(result) if result is not None else None
        canceled = isinstance(gave, dict) and bool(gave.get("canceled"))
        job_id = format_id(seq, nonce)
        return JobRow(job_id, op, kind, state, scheduled_at_us, started_at_us, cause, error, key, idem, canceled)

    def _decoded(self, data: bytes) -> Any:
        if data not in self._bodies:
            self._bodies[data] = codec.decode(data)
        return self._bodies[data]


def _state(file: sqlite3.Connection) -> str:
    """Return what stands for everything that the tables hold."""
    seen = hashlib.blake2b(digest_size=16)
    for (table,) in file.execute(_TABLES).fetchall():
        if table not in _OWN:
            cursor = file.execute(f"SELECT * FROM {table}")
            columns = [name for name, *_ in cursor.description]
            skip = columns.index("deaths") if "deaths" in columns else None  # who is blamed is a hint, and may be lost
            for row in cursor:
                seen.update(repr([value for at, value in enumerate(row) if at != skip]).encode())
    return seen.hexdigest()
