"""What a boot does to the file before anything else runs. Harmless to repeat, from any point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actor_scheduler.limits import DEATHS_MAX
from actor_scheduler.model import ACTIONS, MUTATIONS
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.jobs import SEQ_BLOCK

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

_EPOCH: Final = ours("SELECT value FROM main._scheduler_meta WHERE name = 'boot_epoch'")
_SET_EPOCH: Final = ours("UPDATE main._scheduler_meta SET value = ? WHERE name = 'boot_epoch'")
_RESERVED: Final = ours("SELECT value FROM main._scheduler_meta WHERE name = 'seq_reserved'")
_RESERVE: Final = ours("UPDATE main._scheduler_meta SET value = ? WHERE name = 'seq_reserved'")
_HIGHEST: Final = ours("SELECT coalesce(max(seq), 0) FROM main._scheduler_jobs")
_ORPHANS: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'failed', cause = 'interrupted', completed_at_us = ?, error = ?"
    " WHERE state = 'in_progress' AND boot <> ?",
)
_CLAIMED: Final = ours("SELECT seq FROM main._scheduler_jobs WHERE state = 'in_progress' AND boot = ?")
_UNCLAIM: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'pending', attempt = attempt - 1, started_at_us = NULL, boot = NULL"
    " WHERE seq = ? AND state = 'in_progress' AND boot = ?",
)
_DIED: Final = ours("UPDATE main._scheduler_jobs SET deaths = deaths + 1 WHERE seq = ? AND state = 'pending'")
_CRASH_LOOP: Final = ours(
    "UPDATE main._scheduler_jobs SET state = 'failed', cause = 'crash_loop', completed_at_us = ?, error = ?"
    " WHERE seq = ? AND state = 'pending' AND deaths >= ?"
)
_DEATHS: Final = ours("SELECT deaths FROM main._scheduler_jobs WHERE seq = ?")
_QUEUES: Final = ours(
    "WITH RECURSIVE queues(name) AS (SELECT min(queue) FROM main._scheduler_jobs WHERE state = 'pending' UNION ALL"
    " SELECT (SELECT min(queue) FROM main._scheduler_jobs WHERE state = 'pending' AND queue > name) FROM queues"
    " WHERE name IS NOT NULL) SELECT name FROM queues WHERE name IS NOT NULL"
)
_TO_DEFAULT: Final = ours(
    f"UPDATE main._scheduler_jobs SET queue = iif(kind = 'mutation', '{MUTATIONS}', '{ACTIONS}')"
    " WHERE state = 'pending' AND queue = ?"
)
_INTERRUPTED: Final = (
    "the process ended while this action was running; actions start at most once, so it was not run again"
)


def begin_boot(raw: sqlite3.Connection, now_us: int) -> tuple[int, int, int]:
    """Give this boot its number, and fail the actions that another boot left in progress, in one transaction.

    Return the boot's number, the first free sequence number, and how many actions were interrupted.
    """
    raw.execute(ours("BEGIN IMMEDIATE"))
    try:
        boot: int = raw.execute(_EPOCH).fetchone()[0] + 1
        raw.execute(_SET_EPOCH, (boot,))
        # A job in a queue that nobody serves would never start: it goes to the default one of its kind.
        unserved = [(name,) for (name,) in raw.execute(_QUEUES) if name not in (MUTATIONS, ACTIONS)]
        raw.executemany(_TO_DEFAULT, unserved)
        interrupted = raw.execute(_ORPHANS, (now_us, _INTERRUPTED, boot)).rowcount
        next_seq = max(raw.execute(_RESERVED).fetchone()[0], raw.execute(_HIGHEST).fetchone()[0] + 1, 1)
        raw.execute(_RESERVE, (next_seq + SEQ_BLOCK,))
        raw.execute(ours("COMMIT"))
    except BaseException:
        if raw.in_transaction:
            raw.execute(ours("ROLLBACK"))
        raise
    return boot, next_seq, interrupted


def blame(raw: sqlite3.Connection, seq: int, now_us: int) -> int:
    """Count a death against the mutation that was running when the process died; return how many it has now.

    At DEATHS_MAX it is failed with the cause `crash_loop`, so that the others run.
    """
    raw.execute(ours("BEGIN IMMEDIATE"))
    try:
        raw.execute(_DIED, (seq,))
        raw.execute(
            _CRASH_LOOP, (now_us, f"it was running each of {DEATHS_MAX} times the process died", seq, DEATHS_MAX)
        )
        row = raw.execute(_DEATHS, (seq,)).fetchone()
        raw.execute(ours("COMMIT"))
    except BaseException:
        if raw.in_transaction:
            raw.execute(ours("ROLLBACK"))
        raise
    return row[0] if row is not None else 0


def release_unstarted(raw: sqlite3.Connection, boot: int, running: Collection[int]) -> int:
    """Make this boot's claims pending again that never started, and return how many there were.

    After a commit of unknown outcome a claim may have become durable though the action was never started: starts wait
    for the acknowledgement, so whatever is not in `running` has not started.
    """
    raw.execute(ours("BEGIN IMMEDIATE"))
    try:
        claimed = [seq for (seq,) in raw.execute(_CLAIMED, (boot,))]
        unstarted = [(seq, boot) for seq in claimed if seq not in running]
        raw.executemany(_UNCLAIM, unstarted)
        raw.execute(ours("COMMIT"))
    except BaseException:
        if raw.in_transaction:
            raw.execute(ours("ROLLBACK"))
        raise
    return len(unstarted)
