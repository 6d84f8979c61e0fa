"""Values at rest as values of JSON: what JSON lacks is written so that it can be told from what it has."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any


def plain(value: Any) -> Any:
    """Return a value that was read from the file, or is about to be shown, as JSON can carry it.

    Bytes are {"$bytes": base64}, moments ISO 8601 in UTC (without an offset where they have none), spans of time
    seconds, and floats that are no numbers {"$float": "nan" | "inf" | "-inf"}.  Raises TypeError for what has no such
    form.
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime):
        return moment(value) if value.utcoffset() is not None else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    msg = f"a {type(value).__name__} has no form in JSON"
    raise TypeError(msg)


def moment(when: datetime | None) -> str | None:
    """Return a moment as ISO 8601 in UTC, with microseconds: 2026-11-21T14:00:00.000000Z."""
    if when is None:
        return None
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
