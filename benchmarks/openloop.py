"""Load that does not wait for answers, and what is watched while it runs.

Every arrival has an intended moment, and everything is measured from that moment: a generator that falls behind, or an
app that stalls, shows as lateness.  (One that sent its next call only after an answer would leave out just the calls
that a stall would have hurt: coordinated omission.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.measure import LOOPS, Setup, facts, number

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

_MIB: Final = 1 << 20
_WARM: Final = 0.3  # of the samples, from the beginning, say nothing about a slope: the page cache fills (16 MiB)
_TIMER_S: Final = 0.01  # between two bare timers


# ------------------------------------------------------------ arrivals


async def arrive(rate: float, seconds: float, act: Callable[[int, int], object]) -> int:
    """Call `act(n, intended_ns)` for each arrival, at its moment or as soon after it as the loop gets there."""
    began_ns = time.time_ns()
    total = max(round(rate * seconds), 1)
    n = 0
    while n < total:
        due = min(int((time.time_ns() - began_ns) / 1e9 * rate) + 1, total)
        while n < due:
            act(n, began_ns + round(n / rate * 1e9))
            n += 1
        next_ns = began_ns + round(n / rate * 1e9)
        await asyncio.sleep(max(next_ns - time.time_ns(), 0) / 1e9)
    return total


class Tasks:
    """Tasks that nobody waits for until the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start one, and keep it alive."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for all of them; raise what one of them raised."""
        while self._tasks:
            await asyncio.gather(*self._tasks)


# ------------------------------------------------------------ watching


def rss_mib() -> float:
    """Return the memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


@dataclass
class Watch:
    """Memory and file sizes of the process, and how late bare timers of its loop are."""

    db: Path
    every_s: float = 1.0
    at_s: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    wal: list[float] = field(default_factory=list)
    timers_ms: array[float] = field(default_factory=lambda: array("d"))

    async def run(self) -> None:
        """Watch until canceled."""
        async with asyncio.TaskGroup() as watching:
            watching.create_task(self._sample())
            watching.create_task(time_bare(self.timers_ms))

    async def _sample(self) -> None:
        began = time.perf_counter()
        while True:
            self.at_s.append(time.perf_counter() - began)
            self.rss.append(rss_mib())
            self.wal.append(size_mib(self.db.with_name(self.db.name + "-wal")))
            await asyncio.sleep(self.every_s)

    def slope_mib_per_minute(self) -> float:
        """Return by how much memory grows, once warm."""
        warm = int(len(self.rss) * _WARM)
        at, rss = self.at_s[warm:], self.rss[warm:]
        return statistics.linear_regression(at, rss).slope * 60 if len(at) > 1 else 0.0


async def time_bare(late_ms: array[float]) -> None:
    """Note the lateness of one bare timer after the other, for ever: how long the loop lets a callback wait."""
    loop = asyncio.get_running_loop()
    at = loop.time()
    while True:
        at += _TIMER_S
        rang = asyncio.Event()
        timer = loop.call_at(at, rang.set)
        try:
            await rang.wait()
        finally:
            timer.cancel()
        now = time.monotonic()
        late_ms.append((now - at) * 1_000)
        at = max(at, now - _TIMER_S)


def size_mib(path: Path) -> float:
    """Return the size of a file; 0 when there is none."""
    try:
        return path.stat().st_size / _MIB
    except FileNotFoundError:
        return 0.0


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p99, p999 and the maximum."""
    if len(values) < 2:
        return dict.fromkeys(("p50", "p99", "p999", "max"), values[0] if values else 0.0)
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    return {"p50": cuts[499], "p99": cuts[989], "p999": cuts[998], "max": max(values)}


# ------------------------------------------------------------ the command line


def options(question: str, *, seconds: float) -> argparse.ArgumentParser:
    """Return the options these benchmarks share."""
    given = argparse.ArgumentParser(description=question, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--seconds", type=float, default=seconds, help=f"how long ({seconds:g})")
    given.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given.add_argument("--loop", choices=LOOPS, default=LOOPS[0])
    given.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    given.add_argument("--folder", type=Path, default=None, help="where the database goes (a temporary folder)")
    given.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)  # the process that is measured
    return given


def run(module: str, chosen: argparse.Namespace, work: Callable[[Setup, Any], Any], lines: Callable[..., Any]) -> int:
    """Measure in a process of its own, so that its memory is its own, and print what it found.

    `lines` makes of what was found the rows to print, and what was wrong.  Return 1 when something was.
    """
    if chosen.child is not None:
        setup = Setup(chosen.child, 1, quick=False, synchronous=chosen.synchronous, loop=chosen.loop)
        print(json.dumps(setup.run(work(setup, chosen))))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-", dir=chosen.folder) as folder:
        setup = Setup(Path(folder), 1, quick=False, synchronous=chosen.synchronous, loop=chosen.loop)
        known = facts(setup)
        command = [sys.executable, "-m", module, *sys.argv[1:], "--child", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    rows, wrong = lines(found, chosen)
    if chosen.json:
        print(
            json.dumps({"command": [module, *sys.argv[1:]], "facts": known, "found": found, "wrong": wrong}, indent=1)
        )
    else:
        print(f"python -m {module} {' '.join(sys.argv[1:])}".rstrip())
        print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known.items()), end="\n\n")
        print_rows(rows)
        print("\n".join(["", *(wrong or ["nothing lost, nothing doubled"])]))
    return 1 if wrong else 0


def print_rows(rows: Sequence[tuple[str, object, str, str]]) -> None:
    """Print lines of name, figure, unit and what to hold it against."""
    shown = [
        (name, number(figure) if isinstance(figure, float) else str(figure), *rest) for name, figure, *rest in rows
    ]
    name_width, figure_width, unit_width = (max(len(row[column]) for row in shown) for column in range(3))
    for name, figure, unit, beside in shown:
        print(f"{name:{name_width}}  {figure:>{figure_width}} {unit:{unit_width}}  {beside}".rstrip())
