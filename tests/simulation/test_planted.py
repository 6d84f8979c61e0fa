"""The simulation can fail: every planted bug is found within 500 seeds, under the name of the promise it breaks."""

from __future__ import annotations

import pytest

from tests.proof.checker import Rule, check
from tests.simulation import planted_limits, planted_ticks
from tests.simulation.campaign import known_gap, memory_folder, simulate
from tests.simulation.planted import BUGS, planted

# A process that dies in the simulation leaves coroutines that nobody will ever run.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

_SEEDS = range(1, 501)


def seeds_until_found(name: str) -> tuple[int, set[Rule]]:
    """Return how many seeds it took to find a bug, and what was found; 0 when it was not."""
    seen: set[Rule] = set()
    with memory_folder() as folder, planted(name):
        for seed in _SEEDS:
            found = {violation.rule for violation in check(simulate(seed, folder).history) if not known_gap(violation)}
            seen |= found
            if found & BUGS[name].rules:
                return seed, seen
    return 0, seen


def test_the_bugs_of_every_module_are_planted() -> None:
    """Importing a module is what puts its bugs on the list."""
    assert planted_limits.pause_ignored.__name__ in BUGS
    assert planted_ticks.crons_give_up.__name__ in BUGS
    assert len(BUGS) >= 46


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    """A checker that let this bug pass would say nothing by its silence."""
    seeds, seen = seeds_until_found(name)
    assert seeds, f"not found; what was seen: {sorted(seen)}"
