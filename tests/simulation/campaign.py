"""Many seeds: each simulated and judged, and the whole set judged for what it must have seen."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

from actor_scheduler import crashpoints
from actor_scheduler.store.sqlite import connection, lock, mutations, readers, turn
from runtime import engine
from tests.proof.checker import Violation, check
from tests.simulation.database import SimSqlite3
from tests.simulation.options import CRASHES, SPELLS, STEPS, STORE_FAULTS, draw
from tests.simulation.world import World

YEAR_US: Final = 365.25 * 86_400 * 1_000_000
FAULTS: Final = frozenset(
    (*STORE_FAULTS, *SPELLS, *(f"crash {kind}" for kind in CRASHES), *(f"clock: {kind}" for kind in STEPS),
     "alarm early", "alarm frozen")
)  # fmt: skip
SOMETIMES: Final = frozenset({
    "a crash between a claim's commit and its start",
    "busy while a completion is written",
    "a transaction lost inside a mutation",
    "a refill of an incomplete window",
    "a cancel in the turn of its due job",
    "a retry interrupted by a crash",
})  # fmt: skip

# What is known to be wrong, by name, and counted apart. What is mended is struck off here.
KNOWN_GAPS: Final[dict[str, Callable[[Violation], bool]]] = {}


@dataclass(slots=True)
class Report:
    """The figures of a campaign."""

    heavy: bool = False
    seeds: int = 0
    fires: int = 0
    simulated_us: int = 0
    boots: int = 0
    index_checks: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    sometimes: Counter[str] = field(default_factory=Counter)
    crashed_at: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, Violation]] = field(default_factory=list)
    known: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def crashes(self) -> int:
        """How many simulated processes died."""
        return sum(count for name, count in self.fired.items() if name.startswith("crash "))

    @property
    def years(self) -> float:
        """How many years of virtual time have passed."""
        return self.simulated_us / YEAR_US

    def add(self, world: World, violations: Iterable[Violation]) -> None:
        """Take in one seed."""
        self.seeds += 1
        self.fires += world.fires
        self.simulated_us += world.simulated_us
        self.boots += world.boots
        self.index_checks += world.index_checks
        self.fired.update(world.fired)
        self.sometimes.update(world.sometimes)
        self.crashed_at.update(world.crashed_at)
        for violation in violations:
            gap = known_gap(violation)
            if gap is None:
                self.failed.append((world.options.seed, violation))
            else:
                self.known[gap] += 1

    def unseen(self) -> list[str]:
        """Return the faults that never struck, and what should have happened sometimes and never did."""
        return sorted((FAULTS - self.fired.keys()) | (SOMETIMES - self.sometimes.keys()))

    def text(self) -> str:
        """Return the figures for people."""
        seeds = sorted({seed for seed, _ in self.failed})
        by_rule = Counter(violation.rule for _, violation in self.failed)
        lines = [
            *(f"  {name:44}{count:9}" for name, count in sorted(self.fired.items())),
            "sometimes",
            *(f"  {name:48}{count:5}" for name, count in sorted(self.sometimes.items())),
            *(f"known gap, {count} times: {name}" for name, count in sorted(self.known.items())),
            f"never seen: {', '.join(self.unseen()) or 'nothing'}",
            f"crash points hit: {len(self.crashed_at)} of {len(crashpoints.POINTS)}",
            f"{self.seeds} seeds, {self.fires} fires, {self.years:.1f} simulated years, {self.crashes} crashes,"
            f" {self.boots} starts of the app, {self.index_checks} looks at the index,"
            f" {len(self.failed)} violations in {len(seeds)} seeds, {self.seconds:.1f} s",
            *(f"  {rule.name}: {rule.value} ({count})" for rule, count in by_rule.most_common()),
            *(
                f"repeat: python -m tests.simulation --seeds 1 --first {seed}{' --heavy' if self.heavy else ''}"
                for seed in seeds[:10]
            ),
        ]
        return "\n".join(["faults", *lines])


def known_gap(violation: Violation) -> str | None:
    """Return which known gap a violation is, if it is one."""
    return next((name for name, fits in KNOWN_GAPS.items() if fits(violation)), None)


@contextlib.contextmanager
def simulated(world: World) -> Iterator[None]:
    """Put a world's parts where the real ones stand."""
    logger = logging.getLogger("actor_scheduler")
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(connection, "sqlite3", SimSqlite3(world)))
        for module in (turn, mutations, connection, readers, lock):
            stack.enter_context(mock.patch.object(module, "monotonic_us", world.work_us))
        # The text of a traceback is dear, and says nothing here.
        stack.enter_context(mock.patch.object(engine, "_trace", return_value=None))
        disabled, logger.disabled = logger.disabled, True
        crashpoints.install(world.reached)
        try:
            yield
        finally:
            crashpoints.install(None)
            logger.disabled = disabled


def simulate(seed: int, folder: Path, *, heavy: bool = False) -> World:
    """Run one seed to its end and return its world."""
    world = World(draw(seed, heavy=heavy), folder)
    try:
        with simulated(world):
            world.run()
    finally:
        for path in folder.glob(f"{seed}.db*"):
            path.unlink()
    return world


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """Yield a folder in memory where there is one: what is proved here does not depend on a disk."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=shm if os.access(shm, os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(seeds: Iterable[int], on_failure: Any = None, *, heavy: bool = False) -> Report:
    """Simulate and judge these seeds."""
    began = time.perf_counter()
    report = Report(heavy=heavy)
    with memory_folder() as folder:
        for seed in seeds:
            world = simulate(seed, folder, heavy=heavy)
            violations = check(world.history)
            report.add(world, violations)
            if on_failure is not None and any(known_gap(violation) is None for violation in violations):
                on_failure(world, violations)
    report.seconds = time.perf_counter() - began
    return report
