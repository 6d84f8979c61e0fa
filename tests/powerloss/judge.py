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

from actor_scheduler.store.sqlite import SqliteStore
from actor_scheduler.store.sqlite.thread import InlineDb
from actor_scheduler.testing.clock import VirtualClock
from actor_scheduler.testing.nonces import SeededNonces
from actor_scheduler.times import to_datetime
from runtime.testing import Harness
from tests.crash.campaign import read_out
from tests.crash.checker import check
from tests.crash.crons import FINISH
from tests.crash.functions import make_app, wall_us
from tests.crash.history import History
from tests.crash.rules import Rule, Violation
from tests.powerloss.rules import Content

DB: Final = "app.db"
_LONG_AGO_US: Final = 1_000_000_000_000_000  # in 2001: nothing is due, so a start recovers and dispatches nothing
_NOT_HERE: Final = (Rule.EARLY, Rule.LANE)  # the virtual clock runs ahead of the one that the functions note
_TICKING_SECONDS: Final = 0.3  # for which crons fire, before they are paused so that all work can end
_OWN: Final = ("_scheduler_meta", "_scheduler_schema_steps")  # a boot's number and times: not the app's content
_TABLES: Final = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"


class Judge:
    """Looks at images in one folder, with one app."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._db = folder / DB
        self._starts = folder.with_name(f"{folder.name}-starts")
        self._app: Any = make_app(str(self._db), str(self._starts), auth=False)

    def lay_out(self, image: Mapping[str, bytes]) -> None:
        """Make the folder hold an image, and nothing else."""
        for path in self.folder.iterdir():
            path.unlink()
        for name, data in image.items():
            (self.folder / name).write_bytes(data)

    async def look(self, image: Mapping[str, bytes], starts: bytes = b"") -> Content:
        """Start the app on an image, and return what the file then holds; `starts` were noted outside it."""
        self.lay_out(image)
        self._starts.write_bytes(starts)
        app = self._app
        app._clock = VirtualClock(_LONG_AGO_US)
        app._nonces = SeededNonces(0)  # the jitter of what is tried again is the same on every image
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

    def read(self) -> Content:
        """Read the file as it is. Nobody may have it open."""
        left = History()
        read_out(left, self._db, self._starts)
        if left.file_errors:
            return Content(errors=tuple(left.file_errors))
        with closing(sqlite3.connect(self._db)) as file:
            return Content(left, _state(file))

    async def finish(self, image: Mapping[str, bytes], starts: bytes, history: History) -> list[Violation]:
        """Let the app run on from an image until nothing is left to do, and return what is broken then."""
        self.lay_out(image)
        self._starts.write_bytes(starts)
        async with Harness(self._app, db=self._db, start=to_datetime(wall_us())) as harness:
            await harness.advance(seconds=_TICKING_SECONDS)
            async for info in self._app.crons.list():
                await self._app.crons.pause(info.name, note=FINISH)
            await harness.advance(seconds=5)
        ended = replace(history)
        read_out(ended, self._db, self._starts)
        return [violation for violation in check(ended) if violation.rule not in _NOT_HERE]


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
