"""What do 100,000 pending jobs (with --large: 1,000,000) cost in memory, and at the next start?

Each step is a process of its own, so that its memory is its own: one schedules the jobs, the next opens the file.
The reference is the same with no job pending.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, Setup, run
from benchmarks.sides import arguments, make_app, noop

_AHEAD = 86_400


def measure(setup: Setup) -> list[Result]:
    """Measure each size of backlog against an empty file."""
    empty = _steps(setup, 0)
    sizes = [10_000] if setup.quick else [100_000, 1_000_000] if setup.large else [100_000]
    return [result for size in sizes for result in _compare(size, _steps(setup, size), empty)]


def _compare(size: int, found: dict[str, list[float]], empty: dict[str, list[float]]) -> list[Result]:
    name = f"{size:,} pending"
    goals = {"start": ("ms", "does not grow"), "start_mib": ("MiB", "bounded by the window"), "fill_mib": ("MiB", "")}
    said = {"start": "time to start", "start_mib": "memory the start took", "fill_mib": "memory scheduling took"}
    return [
        Result(f"{name}, {said[what]}", unit, found[what], empty[what], "empty file", goal)
        for what, (unit, goal) in goals.items()
    ]


def _steps(setup: Setup, size: int) -> dict[str, list[float]]:
    path = setup.folder / f"backlog-{size}.db"
    found: dict[str, list[float]] = {"start": [], "start_mib": [], "fill_mib": []}
    found["fill_mib"].append(_child("fill", path, size, setup.synchronous)["mib"])
    for _ in range(min(setup.rounds, 3)):
        started = _child("start", path, size, setup.synchronous)
        found["start"].append(started["ms"])
        found["start_mib"].append(started["mib"])
    return found


def _child(step: str, path: Path, size: int, synchronous: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.backlog", "--child", step, str(path), str(size), synchronous]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    gave: dict[str, float] = json.loads(done.stdout)
    return gave


# ------------------------------------------------------------ in the child


def rss_mib() -> float:
    """Return the memory held now, where the system tells; else the most that was ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def _step(step: str, path: Path, size: int, synchronous: Any) -> dict[str, float]:
    app = make_app(path, synchronous=synchronous)
    before, began = rss_mib(), time.perf_counter()
    async with app:
        if step == "fill":
            await app.scheduler.run_many(noop.bind(**arguments(n)).after(_AHEAD) for n in range(size))
        else:
            await app.scheduler.run_after(_AHEAD, noop.bind(**arguments(0)))  # answered after the turn that loads
        took_ms = (time.perf_counter() - began) * 1_000
        await asyncio.sleep(0.3)
        return {"ms": took_ms, "mib": rss_mib() - before}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(asyncio.run(_step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))))
    else:
        run(__doc__ or "", [measure])
