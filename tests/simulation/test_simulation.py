"""The simulation, short enough for every run of the tests; `make simulate` runs ten times as many seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.checker import check
from tests.simulation.campaign import Report, memory_folder, run, simulate

# A process that dies in the simulation leaves coroutines that nobody will ever run.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

_SEEDS = range(1, 2_001)
_TWICE = range(1, 21)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as made:
        yield made


@pytest.fixture(scope="module")
def report() -> Report:
    return run(_SEEDS)


def test_no_seed_breaks_a_promise(report: Report) -> None:
    """Whatever fails, and wherever the process dies, the history of every seed is one that the promises allow."""
    assert report.failed == [], report.text()


def test_everything_that_can_fail_did_fail(report: Report) -> None:
    """A fault that never struck, or a conjunction that never came about, has shown nothing."""
    assert report.unseen() == [], report.text()


@pytest.mark.parametrize("seed", _TWICE)
def test_a_seed_gives_the_same_run_twice(seed: int, folder: Path) -> None:
    """A failure can only be looked at again when its seed leads there again."""
    first, second = simulate(seed, folder), simulate(seed, folder)
    assert first.trace_hash() == second.trace_hash()
    assert check(first.history) == check(second.history)
