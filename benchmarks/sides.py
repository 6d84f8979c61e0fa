"""The two sides of every comparison: the app as a user writes it, and the ceiling, with the same functions."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.ceiling import Ceiling
from benchmarks.measure import Rate, Stopwatch
from runtime import ActionCtx, App, MutationCtx, Namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from benchmarks.ceiling import Execute

# The product says at each start what an operator should know of this SQLite; once per benchmark is enough.
logging.getLogger("actor_scheduler").setLevel(logging.WARNING)

ROWS_SQL: Final = (
    "CREATE TABLE IF NOT EXISTS bench_rows (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, name TEXT NOT NULL)"
)
INSERT_SQL: Final = "INSERT INTO bench_rows (n, name) VALUES (?, ?)"
NOOP: Final = "bench:noop"
INSERT: Final = "bench:insert"
STAMP: Final = "bench:stamp"

_files = itertools.count()
started_ns: dict[int, int] = {}  # wall clock, by the number of the job: what the action `stamp` saw


def arguments(n: int) -> dict[str, Any]:
    """Return the arguments of the n-th job: 31 bytes encoded, a few ids and a name as jobs usually carry."""
    return {"n": n, "name": "customer-000042"}


# ------------------------------------------------------------ ours

bench = Namespace("bench")


@bench.action
async def noop(ctx: ActionCtx, *, n: int, name: str) -> None:
    """Do nothing."""


@bench.action
async def stamp(ctx: ActionCtx, *, n: int, name: str) -> None:  # noqa: ARG001 - a job's usual arguments
    """Note when this ran."""
    started_ns[n] = time.time_ns()


@bench.mutation
async def insert(ctx: MutationCtx, *, n: int, name: str) -> None:
    """Write one row of the app's own."""
    await ctx.db.execute(INSERT_SQL, (n, name))


def make_app(path: Path, *, synchronous: Any = "FULL", slots: int | None = None) -> App[Any]:
    """Return an app over this file, as a user would write it."""
    options: dict[str, Any] = {} if slots is None else {"max_running_actions": slots}
    app: App[Any] = App(path, namespaces=[bench], synchronous=synchronous, **options)
    app.schema(ROWS_SQL)
    return app


@contextlib.asynccontextmanager
async def ours(folder: Path, *, synchronous: str = "FULL", slots: int | None = None) -> AsyncIterator[App[Any]]:
    """Run an app over a new file."""
    async with make_app(folder / f"ours-{next(_files)}.db", synchronous=synchronous, slots=slots) as app:
        yield app


# ------------------------------------------------------------ the ceiling's


async def _noop(n: int, name: str) -> None:
    pass


async def _stamp(n: int, name: str) -> None:  # noqa: ARG001 - as above
    started_ns[n] = time.time_ns()


def _insert(execute: Execute, n: int, name: str) -> None:
    execute(INSERT_SQL, (n, name))


@contextlib.contextmanager
def ceiling(folder: Path, *, synchronous: str = "FULL") -> Iterator[Ceiling]:
    """Run a ceiling over a new file."""
    runs = Ceiling(
        folder / f"ceiling-{next(_files)}.db",
        schema=[ROWS_SQL],
        mutations={INSERT: _insert},
        actions={NOOP: _noop, STAMP: _stamp},
        synchronous=synchronous,
    )
    try:
        yield runs
    finally:
        runs.close()


# ------------------------------------------------------------ callers


async def drive(call: Callable[[int], Awaitable[Any]], callers: int, count: int) -> Rate:
    """Have this many callers make `count` calls in all, each awaiting one before its next."""
    numbers = iter(range(count))

    async def caller() -> None:
        for n in numbers:
            await call(n)

    watch = Stopwatch()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return watch.rate(count)
