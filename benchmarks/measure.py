"""What every benchmark shares: alternating rounds, medians, machine facts, one table, one JSON form."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

try:
    import uvloop
except ImportError:  # not on Windows
    _uvloop: Any = None
else:
    _uvloop = uvloop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

T = TypeVar("T")
LoopKind = Literal["uvloop", "asyncio"]
LOOPS: Final[tuple[LoopKind, ...]] = ("uvloop", "asyncio") if _uvloop is not None else ("asyncio",)


@dataclass
class Setup:
    """How to measure."""

    folder: Path
    rounds: int
    quick: bool
    synchronous: str
    loop: LoopKind
    large: bool = False

    def count(self, full: int) -> int:
        """Return how many operations a round has: a tenth in a smoke run."""
        return max(full // 10, 50) if self.quick else full

    def run(self, work: Coroutine[Any, Any, T], loop: LoopKind | None = None) -> T:
        """Run a coroutine to its end on a loop of the wanted kind."""
        factory = _uvloop.new_event_loop if (loop or self.loop) == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(work)


class Rate(NamedTuple):
    """One side's round: how fast, and how much CPU of the whole process each operation took."""

    per_second: float
    cpu_us: float


class Stopwatch:
    """Wall time and CPU time of this process, from its making."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def rate(self, count: int, seconds: float | None = None) -> Rate:
        """Return the rate of `count` operations until now, or over these seconds."""
        took = time.perf_counter() - self._wall if seconds is None else seconds
        return Rate(count / took, (time.process_time() - self._cpu) / count * 1_000_000)


@dataclass
class Result:
    """One line of a table: ours beside its reference, over all rounds."""

    scenario: str
    unit: str
    ours: list[float]
    reference: list[float] = field(default_factory=list)
    reference_is: str = "ceiling"
    goal: str = ""
    ours_cpu_us: list[float] = field(default_factory=list)  # per operation
    reference_cpu_us: list[float] = field(default_factory=list)

    @classmethod
    def of_rates(cls, scenario: str, unit: str, rates: tuple[list[Rate], list[Rate]], goal: str) -> Result:
        """Return the result of `alternate`."""
        ours, other = rates
        return cls(
            scenario,
            unit,
            [one.per_second for one in ours],
            [one.per_second for one in other],
            goal=goal,
            ours_cpu_us=[one.cpu_us for one in ours],
            reference_cpu_us=[one.cpu_us for one in other],
        )

    @property
    def ratios(self) -> list[float]:
        """The ratio of each round."""
        return [
            ours / other for ours, other in zip(self.ours, self.reference, strict=False) if other > 0
        ]  # a timer may be early


async def alternate(
    ours: Callable[[], Awaitable[Rate]], ceiling: Callable[[], Awaitable[Rate]], rounds: int
) -> tuple[list[Rate], list[Rate]]:
    """Measure both sides in turn, after one round each that does not count; the order flips every round."""
    await ours()
    await ceiling()
    gave: tuple[list[Rate], list[Rate]] = ([], [])
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            gc.collect()
            gave[side].append(await (ours, ceiling)[side]())
    return gave


# ------------------------------------------------------------ machine facts


def facts(setup: Setup) -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "loop": f"uvloop {_uvloop.__version__}" if setup.loop == "uvloop" else "asyncio",
        "synchronous": setup.synchronous,
        "file_system": _file_system(setup.folder),
        "fdatasync_ms": round(_flush_ms(setup.folder), 3),
        "load_1min": round(os.getloadavg()[0], 2),
        "rounds": setup.rounds,
    }


def _flush_ms(folder: Path, times: int = 200) -> float:
    """Return the median time of one flush of a 4 KiB page that is overwritten in place, as the log's pages are."""
    flush = getattr(os, "fdatasync", os.fsync)
    path = folder / "flush"
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.pwrite(handle, bytes(1 << 20), 0)
        os.fsync(handle)
        spans = []
        for at in range(times):
            began = time.perf_counter()
            os.pwrite(handle, os.urandom(4096), at % 256 * 4096)
            flush(handle)
            spans.append(time.perf_counter() - began)
    finally:
        os.close(handle)
        path.unlink()
    return statistics.median(spans) * 1000


def _file_system(folder: Path) -> str:
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    resolved = str(folder.resolve())
    mounts = [line.split()[1:3] for line in lines]
    under = [(len(at), kind) for at, kind in mounts if resolved == at or resolved.startswith(at.rstrip("/") + "/")]
    return max(under, default=(0, "unknown"))[1]


# ------------------------------------------------------------ output


def number(value: float) -> str:
    """Return a number with as many digits as say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"


def spread(values: Sequence[float]) -> str:
    """Return median (min..max)."""
    if not values:
        return "-"
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))}..{number(max(values))})"


def table(results: Sequence[Result]) -> str:
    """Return the results as a plain table."""
    head = (
        "scenario",
        "unit",
        "ours: median (min..max)",
        "reference: median (min..max)",
        "reference",
        "ratio",
        "CPU us/op",
        "goal",
    )
    lines = [
        (
            one.scenario, one.unit, spread(one.ours), spread(one.reference), one.reference_is if one.reference else "-",
            spread(one.ratios), _cpu(one), one.goal,
        )
        for one in results
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *lines)]
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in shown)


def _cpu(one: Result) -> str:
    if not one.ours_cpu_us:
        return "-"
    return " / ".join(number(statistics.median(side)) for side in (one.ours_cpu_us, one.reference_cpu_us))


def show(what: dict[str, Any], results: Sequence[Result], *, as_json: bool) -> None:
    """Print facts and results."""
    if as_json:
        lines = [{**asdict(one), "ratios": one.ratios, "ratio": _median(one.ratios)} for one in results]
        print(json.dumps({"facts": what, "results": lines}, indent=1))
        return
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in what.items()))
    print()
    print(table(results))


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


# ------------------------------------------------------------ the command line


def parser(question: str) -> argparse.ArgumentParser:
    """Return the options every benchmark takes."""
    options = argparse.ArgumentParser(description=question)
    options.add_argument("--rounds", type=int, default=None, help="rounds per scenario (5; 1 with --quick)")
    options.add_argument("--quick", action="store_true", help="a smoke run: shows that it works, not how fast")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_argument("--loop", choices=LOOPS, default=LOOPS[0])
    options.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    options.add_argument("--folder", type=Path, default=None, help="where the databases go (a temporary folder)")
    options.add_argument("--large", action="store_true", help="backlog: 1,000,000 pending jobs too (a minute or two)")
    return options


def run(question: str, benchmarks: Sequence[Callable[[Setup], list[Result]]]) -> None:
    """Run benchmarks in a folder of their own and print what they gave."""
    chosen = parser(question).parse_args()
    rounds = chosen.rounds if chosen.rounds is not None else (1 if chosen.quick else 5)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=chosen.folder) as folder:
        setup = Setup(Path(folder), rounds, chosen.quick, chosen.synchronous, chosen.loop, chosen.large)
        known = facts(setup)
        if known["file_system"] == "tmpfs":
            print("these files are in memory: flushes cost nothing here; give --folder on a disk", file=sys.stderr)
        results: list[Result] = []
        try:
            for benchmark in benchmarks:
                began = time.perf_counter()
                results.extend(benchmark(setup))
                name = Path(benchmark.__code__.co_filename).stem
                print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        finally:  # what was measured before one failed is worth seeing
            show(known, results, as_json=chosen.json)
