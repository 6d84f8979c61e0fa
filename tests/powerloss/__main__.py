"""python -m tests.powerloss --images 50000 --seed 1: prints its figures; exits 1 when a promise was broken.

The seed decides what is asked, and where and how the power is cut; the order of I/O is up to the threads.  So a life in
which something was found is kept in a file, and `--again FILE` judges exactly its images.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pickle
import sys
import tempfile
from pathlib import Path

from tests.powerloss.campaign import Report, run, run_again
from tests.shim.build import NoShim
from tests.shim.control import run_again_with_shim

_MEMORY = "/dev/shm"  # a file system that flushes at no cost: what a flush means is decided by the log


def main() -> int:
    """Run a campaign and print its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.powerloss", description=__doc__)
    parser.add_argument("--images", type=int, default=50_000, help="at least so many; whole series are run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes; a part of what the seed stands for")
    parser.add_argument("--wrong", help="plant a bug: sync_lies, synchronous_off, or one of tests.crash.planted")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--again", type=Path, help="judge the images of a life that was kept")
    given = parser.parse_args()
    try:
        run_again_with_shim("tests.powerloss", sys.argv[1:])
    except NoShim as error:
        parser.exit(2, f"{error}\n")
    logging.getLogger("actor_scheduler").setLevel(logging.CRITICAL)
    where = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="powerloss-", dir=where) as folder:
        if given.again is not None:
            report = run_again(pickle.loads(given.again.read_bytes()), Path(folder))
        else:
            report = run(given.seed, given.images, Path(folder), jobs=given.jobs, wrong=given.wrong)
    print(report.text())
    print(f"again: python -m tests.powerloss --images {given.images} --seed {given.seed} --jobs {given.jobs}")
    for case in report.cases if given.wrong is None and given.again is None else ():
        kept = Path(tempfile.gettempdir()) / f"powerloss-seed{case.setting.seed}-life{case.setting.life}.case"
        kept.write_bytes(pickle.dumps(case))
        print(f"the same images: python -m tests.powerloss --again {kept}")
    if given.json is not None:
        given.json.write_text(json.dumps(_figures(report)), encoding="utf-8")
    return 1 if report.violations else 0


def _figures(report: Report) -> dict[str, object]:
    return {
        "counts": report.counts,
        "violations": [(where, rule.name, subject, detail) for where, (rule, subject, detail) in report.violations],
    }


if __name__ == "__main__":
    sys.exit(main())
