"""docs/reliability.md names a test for every row of the fault model, or docs/guarantees.md says why there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNTS = {"K": 17, "D": 15, "C": 13, "H": 12, "V": 8, "M": 5, "S": 5}
ROWS = [f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)]


def shown() -> dict[str, list[str]]:
    """Return the tests that the document names for each row."""
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    found = re.findall(r"^\| ([KDCHVMS]\d+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    assert len(found) == len({row for row, _ in found}), "a row stands twice"
    return {row: re.findall(r"`([^`]+)`", tests) for row, tests in found}


def excused() -> set[str]:
    """Return the rows that the guarantees leave out, with a reason."""
    text = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
    section = text.split("## What the fault model leaves out")[1].split("\n## ")[0]
    rows: set[str] = set()
    for line in re.findall(r"^\| ([A-Z][^|]+) \| [^|]+ \| [^|]+ \|$", section, re.MULTILINE):
        rows.update(re.findall(r"[KDCHVMS]\d+", line))
    return rows


def test_every_row_of_the_fault_model_is_shown_or_excused() -> None:
    """A row with neither is a fault that nobody looks at; one with both is a document that contradicts itself."""
    assert [row for row in ROWS if row not in shown() and row not in excused()] == []
    assert [row for row in ROWS if row in shown() and row in excused()] == []


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_of_a_row_exist(row: str) -> None:
    """A test that was renamed or taken away must be so in the document too."""
    if row in excused():
        return
    for name in shown()[row]:
        path, _, test = name.partition("::")
        source = (ROOT / "tests" / path).read_text("utf-8")
        assert re.search(rf"\b{re.escape(test)}\b", source), name
