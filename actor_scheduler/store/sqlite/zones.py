"""The rules of time zones by which next fire times were computed: at a boot, those that have changed since."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from actor_scheduler.crons.firing import next_fire
from actor_scheduler.crons.schedule import zone_fingerprint
from actor_scheduler.errors import InvalidCron, said
from actor_scheduler.store.sqlite.cron_rows import COLUMNS, CronRow
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.job_rows import read

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("actor_scheduler")

_USED: Final = ours(
    "WITH RECURSIVE used(last) AS (SELECT min(zone) FROM main._scheduler_crons WHERE zone IS NOT NULL UNION ALL"
    " SELECT (SELECT min(zone) FROM main._scheduler_crons WHERE zone > used.last) FROM used WHERE used.last IS NOT"
    " NULL) SELECT last FROM used WHERE last IS NOT NULL"
)
# One row of the meta table for each zone in use.
_KNOWN: Final = ours("SELECT substr(name, 6), value FROM main._scheduler_meta WHERE name >= 'zone:' AND name < 'zone;'")
_IS_KNOWN: Final = ours("SELECT 1 FROM main._scheduler_meta WHERE name = 'zone:' || ?")
_REMEMBER: Final = ours("INSERT OR REPLACE INTO main._scheduler_meta (name, value) VALUES ('zone:' || ?, ?)")
_FORGET: Final = ours("DELETE FROM main._scheduler_meta WHERE name = 'zone:' || ?")
_FORGET_OF: Final = ours(
    "DELETE FROM main._scheduler_meta WHERE name = 'zone:' || (SELECT zone FROM main._scheduler_crons WHERE id = ?)"
)
_OF_ZONE: Final = ours(f"SELECT {COLUMNS} FROM main._scheduler_crons WHERE zone = ?")
_SET: Final = ours("UPDATE main._scheduler_crons SET tick_us = ?, fire_at_us = ?, trouble = ? WHERE id = ?")
_UNKNOWN: Final = "unknown"


def remember(raw: sqlite3.Connection, zone: str | None) -> None:
    """Keep a zone's rules, once, with the first cron whose fire time is computed by them. In the open transaction."""
    if zone is not None and raw.execute(_IS_KNOWN, (zone,)).fetchone() is None:
        raw.execute(_REMEMBER, (zone, _fingerprint(zone)))


def forget_of(raw: sqlite3.Connection, cron_id: int) -> None:
    """Let the next boot compute the crons of this one's zone anew, though its rules may then be the same as before."""
    raw.execute(_FORGET_OF, (cron_id,))


def renew(raw: sqlite3.Connection) -> None:
    """Compute the next fire times of every zone whose rules are others than when they were computed.

    A zone that this machine does not know disables its crons, with the trouble on their rows, until it is known again:
    then what they missed is settled by their own policy.  In the open transaction.
    """
    known = dict(read(raw, _KNOWN, ()))
    for (zone,) in read(raw, _USED, ()):
        rules = _fingerprint(zone)
        if known.pop(zone, None) != rules:
            _renew_zone(raw, zone, unknown=rules == _UNKNOWN)
            raw.execute(_REMEMBER, (zone, rules))
    for zone in known:  # nobody uses it any more
        raw.execute(_FORGET, (zone,))


def _fingerprint(zone: str) -> str:
    try:
        return zone_fingerprint(zone)
    except InvalidCron:
        return _UNKNOWN


def _renew_zone(raw: sqlite3.Connection, zone: str, *, unknown: bool) -> None:
    if unknown:
        log.error("time zone %s is not known here (any more): the crons in it do not fire until it is", zone)
    else:
        log.warning(
            "the rules of time zone %s have changed, or it is known again: the crons in it are computed anew", zone
        )
    for values in read(raw, _OF_ZONE, (zone,)):
        row = CronRow(*values)
        try:
            coming, trouble = next_fire(row.decode(), row.account), None
        except Exception as error:  # whatever stands in one row must not keep the app from starting
            coming, trouble = None, said(error)
        tick_us, fire_at_us = coming if coming is not None and not row.paused else (None, None)
        raw.execute(_SET, (tick_us, fire_at_us, trouble, row.id))
