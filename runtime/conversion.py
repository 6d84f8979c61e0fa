"""Rows into an app's own types, with pydantic."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from actor_scheduler.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from actor_scheduler.store.rows import Row


@lru_cache(maxsize=512)
def _adapter(into: Any) -> TypeAdapter[Any]:
    return TypeAdapter(into)


def _convert(into: Any, found: Any) -> Any:
    try:
        return _adapter(into).validate_python(found)
    except ValidationError as error:
        msg = f"a row does not fit {getattr(into, '__name__', into)}: {error}"
        raise DatabaseError(msg) from error


def one(into: Any) -> Callable[[Row | None], Any]:
    """Return a converter for one row; None stays None."""
    return lambda row: None if row is None else _convert(into, dict(row))


def many(into: Any) -> Callable[[list[Row]], list[Any]]:
    """Return a converter for a list of rows."""
    return lambda rows: [_convert(into, dict(row)) for row in rows]


def value(into: Any) -> Callable[[Row | None], Any]:
    """Return a converter that takes the first column; no row, and NULL, give None."""

    def first(row: Row | None) -> Any:
        found = None if row is None else row[0]
        return found if into is None or found is None else _convert(into, found)

    return first
