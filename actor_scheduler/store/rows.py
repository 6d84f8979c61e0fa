"""What SQL gives an app: rows and results, the same for every store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final


class Row(Mapping[str, Any]):
    """One row of a result: columns by name or by position. Iterating gives the names, as for every mapping."""

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: dict[str, int], values: tuple[Any, ...]) -> None:
        self._columns = columns
        self._values = values

    def __getitem__(self, key: str | int, /) -> Any:
        """Return the column with this name, or at this position."""
        return self._values[key if isinstance(key, int) else self._columns[key]]

    def __iter__(self) -> Iterator[str]:
        """Yield the column names."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._columns)

    def __repr__(self) -> str:
        """Show the row as a dict."""
        return f"Row({dict(self)!r})"


class Result:
    """What a write did: how many rows it touched, and the rowid of the last one it inserted."""

    __slots__ = ("lastrowid", "rowcount")

    def __init__(self, rowcount: int, lastrowid: int | None) -> None:
        self.rowcount: Final = rowcount
        self.lastrowid: Final = lastrowid

    def __repr__(self) -> str:
        """Show both figures."""
        return f"Result(rowcount={self.rowcount}, lastrowid={self.lastrowid})"
