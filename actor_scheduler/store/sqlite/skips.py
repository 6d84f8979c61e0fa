"""The record of ticks that did not run: a stretch each, with a reason and a count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.limits import KEEP_US
from actor_scheduler.store.sqlite.fence import ours

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from actor_scheduler.crons.catchup import Drop, SkipReason
    from actor_scheduler.store.sqlite.cron_rows import CronRow

_INSERT: Final = ours(
    "INSERT INTO main._scheduler_skips (cron, reason, first_tick_us, last_tick_us, ticks, recorded_at_us)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_NEWEST: Final = ours(
    "SELECT id, reason, last_tick_us FROM main._scheduler_skips WHERE cron = ? ORDER BY last_tick_us DESC LIMIT 1"
)
_LENGTHEN: Final = ours(
    "UPDATE main._scheduler_skips SET last_tick_us = ?, ticks = ticks + ?, recorded_at_us = ? WHERE id = ?"
)
_COVERS: Final = ours(
    "SELECT reason FROM main._scheduler_skips WHERE cron = ? AND last_tick_us >= ? AND first_tick_us <= ?"
    " ORDER BY last_tick_us LIMIT 1"
)
_PRUNE: Final = ours(
    "DELETE FROM main._scheduler_skips WHERE id IN (SELECT id FROM main._scheduler_skips WHERE recorded_at_us <= ?"
    " ORDER BY recorded_at_us LIMIT ?)"
)
_OLDEST: Final = ours("SELECT min(recorded_at_us) FROM main._scheduler_skips")


class Skips:
    """Writes what did not run. Stretches of one cron that follow each other for one reason are one row."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    def record(self, row: CronRow, drops: Iterable[Drop], now_us: int) -> None:
        """Keep these stretches; they are the ticks that follow the row's watermark, oldest first."""
        upto_us = row.watermark_us
        for reason, first_us, last_us, ticks in drops:
            newest: Any = self._raw.execute(_NEWEST, (row.name,)).fetchone()
            if newest is not None and newest[1:] == (reason, upto_us):
                self._raw.execute(_LENGTHEN, (last_us, ticks, now_us, newest[0]))
            else:
                self._raw.execute(_INSERT, (row.name, reason, first_us, last_us, ticks, now_us))
            upto_us = last_us

    def reason(self, cron: str, tick_us: int) -> SkipReason | None:
        """Return why a tick did not run; None when it is not on record."""
        row: Any = self._raw.execute(_COVERS, (cron, tick_us, tick_us)).fetchone()
        return row[0] if row is not None else None


def prune(raw: sqlite3.Connection, now_us: int, limit: int) -> int:
    """Forget what was kept long enough, as long as a job that ended; at most `limit` rows. Return how many."""
    return raw.execute(_PRUNE, (now_us - KEEP_US, limit)).rowcount if limit > 0 else 0


def prune_due_us(raw: sqlite3.Connection) -> int | None:
    """Return when the first record can be forgotten."""
    oldest_us = raw.execute(_OLDEST).fetchone()[0]
    return oldest_us + KEEP_US if oldest_us is not None else None
