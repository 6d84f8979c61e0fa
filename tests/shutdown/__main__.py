"""python -m tests.shutdown --cycles 300 --seed 1: prints its figures; exits 1 when a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.shutdown.campaign import run


def main() -> int:
    """Run a campaign and print its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.shutdown", description=__doc__)
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a new folder for the files and logs; removed afterwards without it")
    given = parser.parse_args()
    if given.keep is not None:
        report = run(given.seed, given.cycles, given.keep)
    else:
        with tempfile.TemporaryDirectory(prefix="shutdown-") as folder:
            report = run(given.seed, given.cycles, Path(folder))
    print(f"seed {given.seed}\n{report.text()}")
    return 1 if report.violations or report.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
