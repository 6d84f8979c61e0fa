"""The lines of the demo's tables: a figure, what it has to be, and a remark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NAME_WIDTH = 23  # so that tables of different lines stand under each other


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `expected` is None where any figure will do, or any from `least` on."""

    name: str
    count: int
    expected: int | None = None
    remark: str = ""
    least: int = 0

    @property
    def holds(self) -> bool:
        """Whether the figure is what it has to be."""
        return self.count == self.expected if self.expected is not None else self.count >= self.least

    @property
    def row(self) -> tuple[str, str, str, str]:
        """What the table shows of it."""
        if self.expected is None and not self.least:
            mark = ""
        elif self.holds:
            mark = "ok"
        else:
            mark = f"EXPECTED {self.expected:,}" if self.expected is not None else f"EXPECTED {self.least:,} OR MORE"
        return self.name, f"{self.count:,}", mark, self.remark


def aligned(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """Return rows of a table as text."""
    name_width = max(_NAME_WIDTH, *(len(row[0]) for row in rows))
    count_width, mark_width = (max(len(row[column]) for row in rows) for column in (1, 2))
    return "\n".join(
        f"  {name:<{name_width}}  {count:>{count_width}}  {mark:<{mark_width}}  {remark}".rstrip()
        for name, count, mark, remark in rows
    )
