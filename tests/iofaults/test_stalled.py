"""A disk that does not answer: what goes on meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.shim.control import ROOT, environment


def test_d13_a_stalled_disk_stalls_answers_and_nothing_else(tmp_path: Path) -> None:
    """While a sync does not return, queries are answered and nothing is acknowledged; then everything goes on."""
    command = [sys.executable, "-m", "tests.iofaults.stalled", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, check=True, timeout=60)
    assert json.loads(done.stdout) == {
        "seen": [[1]] * 3, "answered": 0, "first": 2, "later": [4, 5, 6, 7], "job": "success",
        "after": [1, 2, 3, 4, 5, 6, 7],
    }  # fmt: skip
