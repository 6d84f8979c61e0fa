"""python -m tests.iofaults: fails every I/O call of every scenario; exits 1 when a promise was broken.

`--only "database schedule sync EIO once" --nth 7` runs one loop from one call on, as a violation names it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.iofaults.campaign import Report, run, sweeps
from tests.shim.build import NoShim
from tests.shim.control import run_again_with_shim

_MEMORY = "/dev/shm"  # flushes cost nothing there, and no fault is left to chance


def main() -> int:
    """Run a campaign and print its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.iofaults", description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="fail every n-th call only")
    parser.add_argument("--seed", type=int, default=0, help="with a stride: which calls are left out")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="loops whose name begins so")
    parser.add_argument("--nth", type=int, help="begin with this call, and fail it alone")
    parser.add_argument("--wrong", help="plant a bug, as tests.iofaults.planted names it")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    given = parser.parse_args()
    try:
        run_again_with_shim("tests.iofaults", sys.argv[1:])
    except NoShim as error:
        parser.exit(2, f"{error}\n")
    logging.getLogger("actor_scheduler").setLevel(logging.CRITICAL if given.nth is None else logging.INFO)
    chosen = [sweep for sweep in sweeps(given.stride, given.seed) if str(sweep).startswith(given.only)]
    if given.nth is not None:
        logging.basicConfig()
        chosen = [replace(sweep, first=given.nth, stride=1_000_000) for sweep in chosen]
    where = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="iofaults-", dir=where) as folder:
        report = run(chosen, Path(folder), jobs=given.jobs, wrong=given.wrong)
    print(report.text())
    print(f"again: python -m tests.iofaults --stride {given.stride} --seed {given.seed}")
    for name, nth in sorted({(name, nth) for name, nth, _ in report.violations}):
        print(f'one of them: python -m tests.iofaults --only "{name}" --nth {nth}')
    if given.json is not None:
        given.json.write_text(json.dumps(_figures(report)), encoding="utf-8")
    return 1 if report.violations else 0


def _figures(report: Report) -> dict[str, object]:
    return {
        "failed": report.failed,
        "counts": report.counts,
        "violations": [(name, nth, rule.name, *rest) for name, nth, (rule, *rest) in report.violations],
    }


if __name__ == "__main__":
    sys.exit(main())
