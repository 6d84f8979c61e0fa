"""python -m tests.owner --races 500 --seed 1: prints its figures; exits 1 when a file had two owners, or none."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.owner.races import run


def main() -> int:
    """Run a campaign and print its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.owner", description=__doc__)
    parser.add_argument("--races", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="owner-") as folder:
        report = run(given.seed, given.races, Path(folder))
    print(f"seed {given.seed}\n{report.text()}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
