"""Moments and spans as an operator reads them. Pure: what time it is comes in as an argument."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def span(seconds: float) -> str:
    """Return a span of time in its two largest units: 1d 2h, 5m, 12s, 0.4s. Parts of the last unit are cut off."""
    seconds = abs(seconds)
    if seconds < 1:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    left = int(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts[:2])


def relative(when: datetime, now: datetime) -> str:
    """Return a moment as it stands to now: in 5m, 2h 3m ago, now."""
    seconds = (when - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"


def moment(said: object, now: datetime) -> str:
    """Return a moment of a document in UTC and as it stands to now; what is no moment as -."""
    when = parsed(said)
    return "-" if when is None else f"{when:%Y-%m-%d %H:%M:%S}Z ({relative(when, now)})"


def brief(said: object, now: datetime) -> str:
    """Return a moment as `moment` does, without the date where it is today's."""
    when = parsed(said)
    whole = moment(said, now)
    return whole if when is None or when.date() != now.astimezone(UTC).date() else whole.partition(" ")[2]


def parsed(said: object) -> datetime | None:
    """Return the moment that a document says; None when it says none."""
    if not isinstance(said, str):
        return None
    try:
        when = datetime.fromisoformat(said)
        return when.astimezone(UTC) if when.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def size(count: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
