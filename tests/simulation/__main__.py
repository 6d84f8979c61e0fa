"""python -m tests.simulation --seeds 2000 --first 1: prints its figures; exits 1 when a promise was broken.

With few seeds, `--trace` prints everything that happened.  With many, what must be seen sometimes must have been seen.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tests.simulation.campaign import known_gap, run

_SHOWN = 10  # failing seeds printed whole
_MANY = 1_000  # seeds that must have seen everything


def main() -> int:
    """Run a campaign and print its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print every event of a failing seed")
    parser.add_argument("--heavy", action="store_true", help="give some seeds thousands of jobs")
    given = parser.parse_args()
    shown = 0

    def show(world: Any, violations: Any) -> None:
        nonlocal shown
        shown += 1
        if shown > _SHOWN:
            return
        print(f"seed {world.options.seed}\n{world.options.text()}")
        for violation in [found for found in violations if known_gap(found) is None][:20]:
            print(f"  {violation.rule.name} {violation.subject}: {violation.rule.value}; {violation.detail}")
        if given.trace:
            print("\n".join(f"  {at_us} {what}" for at_us, *what in world.events))

    report = run(range(given.first, given.first + given.seeds), show, heavy=given.heavy)
    print(report.text())
    incomplete = given.seeds >= _MANY and bool(report.unseen())
    return 1 if report.failed or incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
