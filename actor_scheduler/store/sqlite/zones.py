"""What the rules of time zones were when next fire times were computed: at a boot, those that have changed since."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.crons.firing import next_fire
from actor_scheduler.crons.schedule import zone_fingerprint
from actor_scheduler.errors import InvalidCron
from actor_scheduler.store.sqlite.cron_rows import COLUMNS, CronRow
from actor_scheduler.store.sqlite.fence import ours

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("actor_scheduler")

_USED: Final = ours(
    "WITH RECURSIVE zones(name) AS (SELECT min(zone) FROM main._scheduler_crons WHERE zone IS NOT NULL UNION ALL"
    " SELECT (SELECT min(zone) FROM main._scheduler_crons WHERE zone > name) FROM zones WHERE name IS NOT NULL)"
    " SELECT name FROM zones WHERE name IS NOT NULL"
)
_KNOWN: Final = ours("SELECT value FROM main._scheduler_meta WHERE name = 'zones'")
_REMEMBER: Final = ours("INSERT OR REPLACE INTO main._scheduler_meta (name, value) VALUES ('zones', ?)")
_OF_ZONE: Final = ours(f"SELECT {COLUMNS} FROM main._scheduler_crons WHERE zone = ?")
_SET: Final = ours("UPDATE main._scheduler_crons SET tick_us = ?, fire_at_us = ?, trouble = ? WHERE id = ?")
_UNKNOWN: Final = "unknown"


def renew(raw: sqlite3.Connection) -> None:
    """Compute the next fire times of every zone whose rules are others than at the last boot.

    A zone that this machine does not know disables its crons, with the trouble on their rows, until it is known again:
    then what they missed is settled by their own policy.  In the open transaction.
    """
    used = [zone for (zone,) in raw.execute(_USED)]
    row = raw.execute(_KNOWN).fetchone()
    known: dict[str, Any] = _read(row[0]) if row is not None else {}
    today = {zone: _fingerprint(zone) for zone in used}
    for zone, rules in today.items():
        if known.get(zone, None if rules == _UNKNOWN else rules) != rules:
            _renew_zone(raw, zone, unknown=rules == _UNKNOWN)
    if today != known:
        raw.execute(_REMEMBER, (json.dumps(today),))


def _read(text: object) -> dict[str, Any]:
    try:
        known = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        known = {}
    return known if isinstance(known, dict) else {}


def _fingerprint(zone: str) -> str:
    try:
        return zone_fingerprint(zone)
    except InvalidCron:
        return _UNKNOWN


def _renew_zone(raw: sqlite3.Connection, zone: str, *, unknown: bool) -> None:
    if unknown:
        log.error("time zone %s is not known here (any more): the crons in it do not fire until it is", zone)
    else:
        log.warning("the rules of time zone %s have changed: the crons in it are computed anew", zone)
    for values in raw.execute(_OF_ZONE, (zone,)).fetchall():
        row = CronRow(*values)
        if row.paused:
            continue
        try:
            coming, trouble = next_fire(row.decode(), row.account), None
        except InvalidCron as error:
            coming, trouble = None, str(error)
        tick_us, fire_at_us = coming if coming is not None else (None, None)
        raw.execute(_SET, (tick_us, fire_at_us, trouble, row.id))
