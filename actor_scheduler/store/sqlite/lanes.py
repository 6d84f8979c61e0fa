"""Serial lanes: of the unfinished jobs of a lane only the head stands in a dispatch queue; the others are parked.

The head is the job that runs; else the one that has begun and waits in its queue for the next attempt; else, the failed
ones that are tried again before the others, the earliest by fire time, then by order of acceptance.  Jobs enter a lane
parked.  Before a commit every lane that was touched is settled: its head is put
into its queue, and any other taken out.  So a lane's rule holds in the file, and the index need not know of lanes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actor_scheduler.crashpoints import reach
from actor_scheduler.model import Entry
from actor_scheduler.queues import PARKED
from actor_scheduler.store.sqlite.fence import ours

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from actor_scheduler.store.sqlite.changes import Changes

_HEAD: Final = ours(
    "SELECT seq, queue, fire_at_us FROM main._scheduler_jobs WHERE lane = ? AND lane IS NOT NULL"
    " AND state IN ('pending', 'in_progress') ORDER BY attempt = 0, fire_at_us, seq LIMIT 1"
)
_RUNNING: Final = ours(
    "SELECT lane FROM main._scheduler_jobs INDEXED BY _scheduler_jobs_running"
    " WHERE state = 'in_progress' AND lane IS NOT NULL"
)
_QUEUED: Final = ours(
    "SELECT seq, queue, fire_at_us, attempt FROM main._scheduler_jobs WHERE lane = ? AND lane IS NOT NULL"
    " AND state = 'pending' AND queue < '~'"
)
_MOVE: Final = ours("UPDATE main._scheduler_jobs SET queue = ? WHERE seq = ?")
_LANES_OF: Final = ours(
    "SELECT DISTINCT lane FROM main._scheduler_jobs AS ended WHERE seq IN (SELECT value FROM json_each(?))"
    " AND lane IS NOT NULL AND EXISTS (SELECT 1 FROM main._scheduler_jobs AS more WHERE more.lane = ended.lane"
    " AND more.lane IS NOT NULL AND more.state IN ('pending', 'in_progress'))"
)
_ANY: Final = ours(
    "SELECT 1 FROM main._scheduler_jobs WHERE lane IS NOT NULL AND state IN ('pending', 'in_progress') LIMIT 1"
)
_ALL: Final = ours(
    "WITH RECURSIVE lanes(name) AS (SELECT min(lane) FROM main._scheduler_jobs WHERE lane IS NOT NULL AND state IN"
    " ('pending', 'in_progress') UNION ALL SELECT (SELECT min(lane) FROM main._scheduler_jobs WHERE lane > name"
    " AND lane IS NOT NULL AND state IN ('pending', 'in_progress')) FROM lanes WHERE name IS NOT NULL)"
    " SELECT name FROM lanes WHERE name IS NOT NULL"
)


class Lanes:
    """Keeps every lane's head in its queue. `used` spares apps without lanes the looking."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw
        self.used = raw.execute(_ANY).fetchone() is not None

    def settle(self, changes: Changes) -> None:
        """Settle every lane that the open transaction may have changed; before its commit."""
        if not self.used:
            return
        if changes.effects.ended:
            changes.lanes.update(lane for (lane,) in self._raw.execute(_LANES_OF, (str(changes.effects.ended),)))
        if changes.lanes:
            self._settle(changes.lanes, changes)
            reach("lanes.settled")

    def settle_all(self, changes: Changes) -> None:
        """Settle every lane that has unfinished jobs: at boot, when any of them may have ended."""
        if self.used:
            self._settle([lane for (lane,) in self._raw.execute(_ALL)], changes)

    def _settle(self, lanes: Iterable[str], changes: Changes) -> None:
        raw, running = self._raw, None
        for lane in sorted(lanes):
            if running is None:
                running = {lane for (lane,) in raw.execute(_RUNNING)}
            queued = raw.execute(_QUEUED, (lane,)).fetchall()
            begun = min(((fire_at_us, seq) for seq, _, fire_at_us, attempt in queued if attempt), default=None)
            head = None  # the one that may stand in a queue
            if begun is not None and lane not in running:
                head = begun[1]
            elif lane not in running and (found := raw.execute(_HEAD, (lane,)).fetchone()) is not None:
                head, queue, fire_at_us = found
                if queue.startswith(PARKED):
                    raw.execute(_MOVE, (queue.removeprefix(PARKED), head))
                    changes.waits(queue.removeprefix(PARKED), Entry(fire_at_us, head))
            for seq, queue, fire_at_us, _ in queued:
                if seq != head:
                    raw.execute(_MOVE, (PARKED + queue, seq))
                    changes.leaves(queue, Entry(fire_at_us, seq))
