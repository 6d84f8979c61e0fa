"""Simulated years of crons, with restarts, outages and clocks that jump, each judged commit by commit.

`python -m tests.crons.years --seeds 300 --first 1`: prints its figures; exits 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.proof.ticks import at
from tests.simulation.campaign import memory_folder, simulated
from tests.simulation.cron_plan import EVENTS, YEAR_US, draw
from tests.simulation.cron_world import CronWorld

REASONS: Final = frozenset({"policy", "cap", "age", "overlap", "paused", "stale_manifest", "disabled"})
SOMETIMES: Final = frozenset({
    "rolled back", "many at once", "dispatch accepted", "dispatch duplicate", "dispatch skipped",
    "killed at cron.runs_written", "killed at cron.moved", "killed at cron.stored", "killed at manifest.activated",
})  # fmt: skip
_SHOWN: Final = 5


@dataclass(slots=True)
class Report:
    """The figures of a campaign."""

    seeds: int = 0
    fires: int = 0
    simulated_us: int = 0
    boots: int = 0
    turns: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, world: CronWorld) -> None:
        """Take in one seed."""
        self.seeds += 1
        self.fires += len(world.watch.runs)
        self.simulated_us += world.simulated_us
        self.boots += world.boots
        self.turns += world.turns
        self.seen.update(world.fired)
        self.seen.update(world.sometimes)
        self.dropped.update(world.watch.dropped)
        self.failed.extend((world.plan.seed, *finding) for finding in world.findings)

    def unseen(self) -> list[str]:
        """Return what should have happened sometimes, and never did."""
        kills = {"kill between passes", "kill at a point", "kill after a call"}
        return sorted(({*EVENTS, *SOMETIMES, *kills} - self.seen.keys()) | (REASONS - self.dropped.keys()))

    def text(self) -> str:
        """Return the figures for people."""
        seeds = sorted({seed for seed, *_ in self.failed})
        lines = [
            *(f"  {name:44}{count:9}" for name, count in sorted(self.seen.items())),
            *(f"  {count} ticks dropped: {name}" for name, count in sorted(self.dropped.items())),
            f"never seen: {', '.join(self.unseen()) or 'nothing'}",
            f"{self.seeds} seeds, {self.simulated_us / YEAR_US:.0f} simulated years, {self.fires} runs,"
            f" {self.boots} starts of the app, {self.turns} turns, {len(self.failed)} findings in {len(seeds)} seeds,"
            f" {self.seconds:.1f} s",
            *(f"repeat: python -m tests.crons.years --trace --seeds 1 --first {seed}" for seed in seeds[:10]),
        ]
        return "\n".join(lines)


def simulate(seed: int, folder: Path) -> CronWorld:
    """Run one seed to its end and return its world."""
    world = CronWorld(draw(seed), folder)
    judged: Any = world
    try:
        with simulated(judged):
            world.run()
    except Exception:  # nothing may come out of the API but what was asked for
        world.findings.append(("app", traceback.format_exc()))
    finally:
        world.watch.close()
        for path in folder.glob(f"years-{seed}.db*"):
            path.unlink()
    return world


def run(seeds: Iterable[int], on_failure: Any = None) -> Report:
    """Simulate these seeds."""
    began = time.perf_counter()
    report = Report()
    with memory_folder() as folder:
        for seed in seeds:
            world = simulate(seed, folder)
            report.add(world)
            if world.findings and on_failure is not None:
                on_failure(world)
    report.seconds = time.perf_counter() - began
    return report


def main() -> int:
    """Run a campaign and print its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.crons.years", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print every event of a failing seed")
    given = parser.parse_args()
    shown = 0

    def show(world: CronWorld) -> None:
        nonlocal shown
        shown += 1
        if shown > _SHOWN:
            return
        print(f"seed {world.plan.seed}: {world.plan}")
        for subject, what in world.findings[:8]:
            print(f"  {subject} {what}")
        if given.trace:
            print("\n".join(f"  {at(at_us)} {what}" for at_us, *what in world.events))

    report = run(range(given.first, given.first + given.seeds), show)
    print(report.text())
    return 1 if report.failed or (given.seeds >= 300 and report.unseen()) else 0


if __name__ == "__main__":
    sys.exit(main())
