"""The public types: programs that must check in strict mode, and mistakes that both checkers must report.

`programs/` holds what users write; neither mypy --strict nor pyright strict may say anything about it. In `mistakes/`
every wrong line ends in `# error: <mypy's code>, <pyright's rule>`; each checker must report exactly those lines, each
for that reason.

Both checkers come from requirements-dev.txt. pyright's wheel brings pyright itself but needs `node` on PATH to run it;
then nothing is downloaded. Without node its test is skipped, since the wrapper would fetch one from the network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, TypeAlias

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONFIG = HERE / "pyrightconfig.json"
FOLDERS = (HERE / "programs", HERE / "mistakes")
MARKER = re.compile(r"# error(?:: (?P<mypy>[a-z-]+), (?P<pyright>report\w+))?$")

Line: TypeAlias = tuple[str, int]
Reports: TypeAlias = "dict[Line, dict[str, str]]"  # by line: code and message


def files() -> list[Path]:
    """Return every program and every file of mistakes."""
    return sorted(path for folder in FOLDERS for path in folder.glob("*.py"))


def expected(checker: str) -> dict[Line, str]:
    """Return the lines that must be reported, with the code each must be reported for."""
    found: dict[Line, str] = {}
    for path in files():
        for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
            if marker := MARKER.search(text):
                assert marker[checker] is not None, f"{path.name}:{number}: a marker names both codes"
                found[path.relative_to(HERE).as_posix(), number] = marker[checker]
    return found


def mypy_reports() -> Reports:
    """Return what mypy says, with the project's own configuration."""
    command = [
        sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--explicit-package-bases",
        "--no-error-summary", "--no-pretty", "--show-error-codes", "--hide-error-context", "--no-color-output",
        *(str(path.relative_to(ROOT)) for path in files()),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), f"mypy did not run:\n{done.stdout}\n{done.stderr}"
    reports: Reports = defaultdict(dict)
    for line in done.stdout.splitlines():
        found = re.fullmatch(r"(?P<path>.+?):(?P<line>\d+): (?P<what>\w+): (?P<text>.*)", line)
        assert found is not None, f"mypy said something unexpected: {line}"
        path = (ROOT / found["path"]).resolve()
        if found["what"] != "note" and path.is_relative_to(HERE):  # the packages themselves are for `make types`
            text, _, code = found["text"].rpartition("  [")
            reports[path.relative_to(HERE).as_posix(), int(found["line"])][code.rstrip("]")] = text
    return reports


def pyright_reports() -> Reports:
    """Return what pyright says in strict mode."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYRIGHT_PYTHON_")}
    environment["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"  # else it asks the network for a newer release
    command = [
        sys.executable, "-m", "pyright", "--project", str(CONFIG), "--pythonpath", sys.executable, "--outputjson",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode in (0, 1), f"pyright did not run:\n{done.stdout}\n{done.stderr}"
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] == len(files()), "pyright looked at other files"
    reports: Reports = defaultdict(dict)
    for report in said["generalDiagnostics"]:
        path = Path(report["file"]).resolve().relative_to(HERE).as_posix()
        reports[path, report["range"]["start"]["line"] + 1][report.get("rule", report["severity"])] = report["message"]
    return reports


def differences(wanted: dict[Line, str], reports: Reports) -> list[str]:
    """Return a sentence for every marked line that is not reported, and for every report without a mark."""
    missing = [
        f"{path}:{number} is not reported as {code} but as {sorted(reports.get((path, number), {}))}"
        for (path, number), code in sorted(wanted.items())
        if code not in reports.get((path, number), {})
    ]
    unexpected = [
        f"{path}:{number} is reported: {said}"
        for (path, number), said in sorted(reports.items())
        if (path, number) not in wanted
    ]
    return missing + unexpected


def test_mypy_strict_accepts_the_programs_and_reports_every_mistake() -> None:
    """Mypy --strict must report the marked lines, for the marked reasons, and nothing else."""
    wanted = expected("mypy")
    assert len(wanted) > 100
    assert differences(wanted, mypy_reports()) == []


@pytest.mark.skipif(shutil.which("node") is None, reason="pyright needs node on PATH")
def test_pyright_strict_accepts_the_programs_and_reports_every_mistake() -> None:
    """Pyright strict must report the marked lines, for the marked reasons, and nothing else."""
    wanted = expected("pyright")
    assert len(wanted) > 100
    assert differences(wanted, pyright_reports()) == []


def test_a_difference_in_either_direction_is_found() -> None:
    """A missing report, one for another reason, and an unexpected one must each be named."""
    wanted = {("a.py", 1): "call-arg", ("a.py", 2): "call-arg", ("a.py", 3): "call-arg"}
    reports: Reports = {
        ("a.py", 1): {"call-arg": "fits"}, ("a.py", 2): {"arg-type": "differs"}, ("a.py", 9): {"misc": "new"},
    }  # fmt: skip
    found = differences(wanted, reports)
    assert [line.split()[0] for line in found] == ["a.py:2", "a.py:3", "a.py:9"]


def test_pyright_checks_the_mistakes_as_strictly_as_the_project() -> None:
    """The configuration for this test must not be laxer than the one users see in pyproject.toml."""
    config = json.loads(CONFIG.read_text("utf-8"))
    assert config["typeCheckingMode"] == "strict"
    assert not [name for name in config if name.startswith("report")]
    assert 'typeCheckingMode = "strict"' in (ROOT / "pyproject.toml").read_text("utf-8")
