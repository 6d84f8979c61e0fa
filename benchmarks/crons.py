"""What do 10,000 crons (with --large: 300,000) cost at a start and in memory, and how late are 10,000 of one second?

Each step is a process of its own.  The clock is the system's, set to just before the moment at which 10,000 of the
crons are due; the others are due later that day.  The reference is 10,000 one-shot jobs for the same moment, and for
the start an empty file.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.clock import SystemClock
from benchmarks.backlog import rss_mib
from benchmarks.measure import Result, Setup, run
from runtime import App, Cron, MutationCtx, Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

DUE: Final = datetime(2026, 6, 2, 3, tzinfo=UTC)
AT_ONCE: Final = 10_000
_CHUNK: Final = 1_000
_ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")

bench = Namespace("bench")
lags_us: list[int] = []
_wanted: list[asyncio.Future[None]] = []
_clock: list[SetClock] = []


class SetClock(SystemClock):
    """The system's clock, set to another moment."""

    def __init__(self, seconds_before: float) -> None:
        self._offset_us = round((DUE.timestamp() - seconds_before) * 1_000_000) - super().now_us()

    def now_us(self) -> int:
        """Return the wall clock, moved."""
        return super().now_us() + self._offset_us


@bench.mutation
async def fill(ctx: MutationCtx, *, first: int, count: int) -> None:
    """Register some crons: the first AT_ONCE are due together, the others at some minute later that day."""
    for n in range(first, first + count):
        await ctx.crons.register(f"user/{n:06d}", _schedule(n), remind.bind(user=n))


def _schedule(n: int) -> Cron:
    if n < AT_ONCE:
        return Cron("0 3 * * *")
    chance = random.Random(n)
    return Cron(f"{chance.randrange(60)} {chance.randrange(14, 16)} * * *", tz=chance.choice(_ZONES))


@bench.mutation
async def remind(ctx: MutationCtx, *, user: int) -> None:  # noqa: ARG001 - what a reminder is told
    """Note how late this runs."""
    lags_us.append(_clock[0].now_us() - round(DUE.timestamp() * 1_000_000))
    if len(lags_us) == AT_ONCE:
        _wanted[0].get_loop().call_soon_threadsafe(_wanted[0].set_result, None)


def measure(setup: Setup) -> list[Result]:
    """Measure each number of crons against one-shot jobs, and against an empty file."""
    sizes = [1_000] if setup.quick else [10_000, 300_000] if setup.large else [10_000]
    empty, jobs = _steps(setup, 0), _tick(setup, "jobs", 0)
    return [result for size in sizes for result in _compare(setup, size, empty, jobs)]


def _compare(setup: Setup, size: int, empty: dict[str, list[float]], jobs: dict[str, list[float]]) -> Iterator[Result]:
    found = _steps(setup, size)
    name = f"{size:,} crons"
    for what, unit, said in (
        ("ms", "ms", "time to start"), ("mib", "MiB", "memory the start took"), ("fill_ms", "ms", "time to register"),
    ):  # fmt: skip
        yield Result(f"{name}, {said}", unit, found[what], empty[what] if what != "fill_ms" else [], "empty file")
    if size >= AT_ONCE:
        ticks = _tick(setup, "crons", size)
        for what, unit in (("all_ms", "ms"), ("p50_ms", "ms"), ("p99_ms", "ms"), ("cpu_us", "µs CPU each")):
            yield Result(f"{name}, {AT_ONCE:,} due at once: {what}", unit, ticks[what], jobs[what], "one-shot jobs")


def _steps(setup: Setup, size: int) -> dict[str, list[float]]:
    path = setup.folder / f"crons-{size}.db"
    found: dict[str, list[float]] = {"ms": [], "mib": [], "fill_ms": [_child("fill", path, size, setup)["ms"]]}
    for _ in range(min(setup.rounds, 3)):
        started = _child("start", path, size, setup)
        found["ms"].append(started["ms"])
        found["mib"].append(started["mib"])
    return found


def _tick(setup: Setup, kind: str, size: int) -> dict[str, list[float]]:
    """Let AT_ONCE fall due, on a copy of the file each time."""
    found: dict[str, list[float]] = {}
    for number in range(min(setup.rounds, 3)):
        path = setup.folder / f"tick-{kind}-{size}-{number}.db"
        if kind == "crons":
            path.write_bytes((setup.folder / f"crons-{size}.db").read_bytes())
        for name, value in _child(kind, path, size, setup).items():
            found.setdefault(name, []).append(value)
        path.unlink()
    return found


def _child(step: str, path: Path, size: int, setup: Setup) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.crons", "--child", step, str(path), str(size), setup.synchronous]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    gave: dict[str, float] = json.loads(done.stdout)
    return gave


# ------------------------------------------------------------ in the child


async def _step(step: str, path: Path, size: int, synchronous: Any) -> dict[str, float]:
    ticks = step in ("jobs", "crons")
    _clock.append(SetClock(4 if ticks else 60))
    _wanted.append(asyncio.get_running_loop().create_future())
    app = App(path, namespaces=[bench], clock=_clock[0], synchronous=synchronous)
    before, began = rss_mib(), time.perf_counter()
    async with app:
        if step == "fill":
            for first in range(0, size, _CHUNK):
                await app.call(fill, first=first, count=min(_CHUNK, size - first))
        if step == "jobs":
            await app.scheduler.run_many(remind.bind(user=n).at(DUE) for n in range(AT_ONCE))
        if ticks:
            return await _due()
        await app.scheduler.run_at(datetime(2026, 12, 1, tzinfo=UTC), remind.bind(user=0))  # after the turn that loads
        took_ms = (time.perf_counter() - began) * 1_000
        await asyncio.sleep(0.3)
        return {"ms": took_ms, "mib": rss_mib() - before}


async def _due() -> dict[str, float]:
    cpu = time.process_time()
    await _wanted[0]
    lags = sorted(lags_us)
    return {
        "all_ms": lags[-1] / 1_000,
        "p50_ms": lags[len(lags) // 2] / 1_000,
        "p99_ms": lags[len(lags) * 99 // 100] / 1_000,
        "cpu_us": (time.process_time() - cpu) / len(lags) * 1e6,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(asyncio.run(_step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))))
    else:
        run(__doc__ or "", [measure])
