"""A bench on a temporary SQLite file, and a subprocess that answers line by line."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.store.sqlite import SqliteStore
from actor_scheduler.store.sqlite.app_schema import SchemaStep
from actor_scheduler.store.sqlite.thread import InlineDb
from actor_scheduler.testing.bench import Bench, opened

OpenBench = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where the test's database is."""
    return tmp_path / "app.db"


@pytest.fixture
def open_bench(db: Path) -> OpenBench:
    """Open a store on the test's file, with schema steps given as SQL text; on the loop's own thread by default."""

    def make(
        *steps: str, path: Path = db, make_db: Any = InlineDb, **options: Any
    ) -> AbstractAsyncContextManager[Bench]:
        schema = [SchemaStep(f"step {at}", sql) for at, sql in enumerate(steps, 1)]
        options = {"lock_timeout_us": 0, **options}
        return opened(partial(_make, path, schema, make_db, options))

    return make


def _make(
    path: Path, schema: list[SchemaStep], make_db: Any, options: dict[str, Any], host: Any, clock: Any
) -> SqliteStore:
    return SqliteStore(path, host, clock, schema=schema, make_db=make_db, **options)


class Child:
    """A Python process of this test: it is told to go on by a line, and answers with lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def says(self) -> Any:
        """Return the next line of the child; its errors when there is none."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            pytest.fail(f"the child ended: {(await self._process.stderr.read()).decode()}")
        return json.loads(line)

    async def tell(self) -> None:
        """Let the child go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    def kill(self) -> None:
        """End the child as kill -9 does."""
        self._process.send_signal(signal.SIGKILL)


@pytest.fixture
async def spawn() -> AsyncIterator[Callable[..., Awaitable[Child]]]:
    """Start Python on a script with arguments; whatever still runs at the end is killed."""
    processes: list[asyncio.subprocess.Process] = []

    async def start(script: str, *args: str | Path) -> Child:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, *map(str, args), stdin=pipe, stdout=pipe, stderr=pipe
        )
        processes.append(process)
        return Child(process)

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        assert process.stdin is not None
        process.stdin.close()  # also ends what the process forked
        await process.communicate()
