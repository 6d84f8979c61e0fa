"""The benchmarks that are run by hand still run: each for a moment, on a load that any machine carries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def _run(folder: Path, module: str, *options: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.{module}", "--folder", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _measured(folder: Path, module: str, *options: str) -> dict[str, Any]:
    gave: dict[str, Any] = json.loads(_run(folder, module, "--json", *options))
    assert gave["wrong"] == []
    found: dict[str, Any] = gave["found"]
    return found


def test_load_runs_every_job_that_it_scheduled(tmp_path: Path) -> None:
    """As many as the rate says, each once, and with a lateness for each."""
    found = _measured(tmp_path, "load", "--seconds", "0.4", "--rate", "100")
    assert (found["jobs"], found["acked"], found["ran"], found["rows"], found["unfinished"]) == (40, 40, 40, 40, 0)
    assert found["errors"] == {}
    assert 0 < found["late_ms"]["p50"] <= found["late_ms"]["p99"] <= found["late_ms"]["max"]


def test_load_prints_a_table_with_its_command(tmp_path: Path) -> None:
    """What was run stands above what was found."""
    lines = _run(tmp_path, "load", "--seconds", "0.2", "--rate", "50").splitlines()
    assert lines[0] == f"python -m benchmarks.load --folder {tmp_path} --seconds 0.2 --rate 50"
    assert lines[-1] == "nothing lost, nothing doubled"
    assert any(line.startswith("lateness p99") for line in lines)


def test_overload_accounts_for_every_call(tmp_path: Path) -> None:
    """Each call was answered or refused by an error with a name; calm came back."""
    found = _measured(tmp_path, "overload", "--seconds", "0.2", "--steps", "500")
    assert sum(found["answers"].values()) == found["sent"] > 0
    assert set(found["answers"]) <= {"answered", "Overloaded"}
    assert found["calm_before"]


def test_recovery_measures_a_crashed_file(tmp_path: Path) -> None:
    """With a backlog and without, pending and overdue, in processes that die by SIGKILL."""
    found = json.loads(_run(tmp_path, "recovery", "--quick", "--json"))
    assert {result["scenario"] for result in found["results"]} >= {
        "1,000 pending: until its first job runs",
        "1,000 overdue: until it is ready",
    }
    assert all(result["ours"][0] > 0 and result["reference"][0] > 0 for result in found["results"])
