"""Simulated years of crons, short enough for every run of the tests; `python -m tests.crons.years` runs many more.

And they can fail: every planted bug is found, under the complaint it deserves.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crons.years import run, simulate
from tests.simulation.campaign import memory_folder
from tests.simulation.planted_crons import BUGS, planted

# A process that dies in the simulation leaves coroutines that nobody will ever run.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

_SEEDS = range(1, 9)
_TRIED = range(1, 301)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as made:
        yield made


def test_no_year_breaks_a_promise() -> None:
    """Through kills, outages and clocks that jump, every tick of every cron is accounted for, once."""
    report = run(_SEEDS)
    assert report.failed == [], report.text()
    assert report.fires > 100


@pytest.mark.parametrize("seed", [2, 25])
def test_a_seed_gives_the_same_years_twice(seed: int, folder: Path) -> None:
    """A failure can only be looked at again when its seed leads there again."""
    first, second = simulate(seed, folder), simulate(seed, folder)
    assert first.trace_hash() == second.trace_hash()
    assert first.findings == second.findings


def seeds_until_found(name: str, folder: Path) -> tuple[int, list[str]]:
    """Return how many seeds it took to find a bug, and what was said of it; 0 when it was not found."""
    bug, said = BUGS[name], []
    with planted(name):
        for tried, seed in enumerate((bug.seed, *_TRIED), 1):
            said = [what for _, what in simulate(seed, folder).findings]
            if any(complaint in what for what in said for complaint in bug.complaints):
                return tried, said
    return 0, said


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str, folder: Path) -> None:
    """A watch that let this bug pass would say nothing by its silence."""
    tried, said = seeds_until_found(name, folder)
    assert tried, f"not found; what was said: {said[:3]}"
