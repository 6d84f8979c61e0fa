"""What stands in a database file of crons: whether they wait for what they should, and every tick is accounted for.

Only reads; any row may be garbage.  Of more than CRONS_LOOKED_INTO crons the others are only counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from actor_scheduler.crons.firing import next_fire
from actor_scheduler.crons.schedule import zone_fingerprint
from actor_scheduler.errors import InvalidCron, UnknownZone, said
from actor_scheduler.limits import SECOND_US
from actor_scheduler.store.sqlite.cron_rows import COLUMNS, CronRow, decode_definitions
from actor_scheduler.store.sqlite.findings import Findings, shown, shown_span
from actor_scheduler.store.sqlite.job_rows import moment

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from actor_scheduler.crons.spec import CronSpec

CRONS_LOOKED_INTO: Final = 20_000  # ~30 µs each
_LATE_US: Final = 60 * SECOND_US  # an overdue cron of a running app: longer than any of its own waits
_AHEAD_US: Final = 3_600 * SECOND_US  # a watermark that is further ahead: clocks are set right by less
_MEND: Final = "Another program has changed it. actor-scheduler cron pause NAME, then cron resume NAME, sets it right."
_SET_BACK: Final = (
    "No tick runs twice: the file allows one run of each. Ticks that have run may be recorded as skipped."
)
_AGAIN: Final = "Register it again, or start the app whose code defines it."
_RECORD: Final = "Only the record is wrong: runs are not. It is forgotten after a week."
_ACTIVE_AGAIN: Final = "The next start of the app, or actor-scheduler cron activate VERSION, settles it."

_COUNTED: Final = "SELECT count(*), count(paused_at_us), count(trouble), count(fire_at_us) FROM main._scheduler_crons"
_CRONS: Final = f"SELECT {COLUMNS}, zone FROM main._scheduler_crons ORDER BY id LIMIT ?"
_PAUSED: Final = "SELECT name, note FROM main._scheduler_crons WHERE paused_at_us IS NOT NULL LIMIT 1"
_OVERDUE: Final = (
    "SELECT name, fire_at_us, count(*) OVER () FROM main._scheduler_crons"
    " WHERE fire_at_us <= ? AND fire_at_us IS NOT NULL ORDER BY fire_at_us LIMIT 1"
)
_ZONES: Final = "SELECT substr(name, 6), value FROM main._scheduler_meta WHERE name >= 'zone:' AND name < 'zone;'"
_BEYOND: Final = (
    "SELECT name, count(*) OVER () FROM main._scheduler_crons AS c WHERE EXISTS (SELECT 1 FROM main._scheduler_jobs"
    " WHERE cron = c.name AND cron IS NOT NULL AND tick_us > c.watermark_us) LIMIT 1"
)
_SHAPE: Final = (
    "SELECT cron, count(*) OVER () FROM main._scheduler_skips WHERE ticks < 1 OR first_tick_us > last_tick_us"
    " OR (ticks = 1) <> (first_tick_us = last_tick_us) LIMIT 1"
)
_OVERLAPS: Final = (
    "SELECT cron, count(*) OVER () FROM (SELECT cron, first_tick_us, max(last_tick_us) OVER (PARTITION BY cron"
    " ORDER BY first_tick_us, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before"
    " FROM main._scheduler_skips) WHERE before >= first_tick_us LIMIT 1"
)
_RAN: Final = (
    "SELECT cron, count(*) OVER () FROM main._scheduler_skips AS s WHERE EXISTS (SELECT 1 FROM main._scheduler_jobs"
    " WHERE cron = s.cron AND cron IS NOT NULL AND tick_us BETWEEN s.first_tick_us AND s.last_tick_us) LIMIT 1"
)
_SKIPS_OF: Final = (
    "SELECT first_tick_us, last_tick_us, ticks FROM main._scheduler_skips WHERE cron = ? AND first_tick_us > ?"
    " ORDER BY last_tick_us DESC LIMIT 100"
)
_MANIFESTS: Final = "SELECT version, state, definitions FROM main._scheduler_manifests ORDER BY version"
_DEFINED: Final = "SELECT name FROM main._scheduler_crons WHERE origin = 'manifest'"


class _Wrong(NamedTuple):
    """The crons of which one thing was found."""

    first: str
    others: int


def crons(findings: Findings, raw: sqlite3.Connection, now_us: int, *, live: bool) -> None:
    """Count the crons, and say which of them can't go on, wait for the wrong moment, or are late."""
    total, paused, troubled, waiting = raw.execute(_COUNTED).fetchone()
    if total == 0:
        return
    findings.fact("crons", f"{total}: {waiting} wait for a tick, {paused} are paused, {troubled} are in trouble")
    if paused:
        name, note = raw.execute(_PAUSED).fetchone()
        why = f": {shown(note)}" if note else ""
        findings.note(
            f"{paused} crons are paused; the first is {_quoted(name)}{why}",
            "actor-scheduler cron resume NAME lets one go on.",
        )
    _overdue(findings, raw, now_us, live=live)
    rows = raw.execute(_CRONS, (CRONS_LOOKED_INTO,)).fetchall()
    if total > len(rows):
        findings.note(
            f"{total - len(rows)} more crons were counted, and not looked into", "Nothing is wrong with that."
        )
    _look_into(findings, raw, rows, now_us)


def _overdue(findings: Findings, raw: sqlite3.Connection, now_us: int, *, live: bool) -> None:
    row = raw.execute(_OVERDUE, (now_us,)).fetchone()
    if row is None:
        return
    name, fire_at_us, count = row
    what = f"{count} crons are due; the longest is {_quoted(name)}, for {shown_span(now_us - fire_at_us)}"
    if not live:
        findings.note(what, "They fire when the app starts, each by its own policy.")
    elif now_us - fire_at_us >= _LATE_US:
        findings.warning(
            what,
            "The app runs, but does not get to them. actor-scheduler stats shows whether it is ready; its log names "
            "long mutations.",
        )


def _look_into(findings: Findings, raw: sqlite3.Connection, rows: Sequence[Any], now_us: int) -> None:
    """Compare what stands in each row with what its definition says."""
    found: dict[tuple[str, str], list[str]] = {}
    zones = dict(raw.execute(_ZONES).fetchall())
    for *columns, zone in rows:
        row = CronRow(*columns)
        try:
            problems = list(_problems(raw, row, now_us, zone, same_rules=_same_rules(zone, zones)))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, AssertionError) as error:
            problems = [(f"can't be judged: {said(error)}", _AGAIN)]
        for problem in problems:
            found.setdefault(problem, []).append(row.name)
    for (what, do), names in found.items():
        findings.warning(_named(_Wrong(names[0], len(names) - 1), what), do)


def _same_rules(zone: Any, zones: dict[Any, Any]) -> bool:
    """Whether a zone's rules here are those by which fire times were computed; else the next start does so anew."""
    try:
        return zone is None or zones.get(zone) == zone_fingerprint(zone)
    except InvalidCron:
        return False


def _problems(
    raw: sqlite3.Connection, row: CronRow, now_us: int, zone: Any, *, same_rules: bool
) -> Iterable[tuple[str, str]]:
    """Yield what is wrong with one cron, and what to do about it."""
    if row.trouble is not None:
        yield f"can't go on: {shown(row.trouble)}", _AGAIN
        return
    try:
        spec = row.decode()
    except UnknownZone:
        yield "is in a time zone that is not known here, so that it was not looked into", "Install the package tzdata."
        return
    except InvalidCron as error:
        yield f"can't be read: {shown(error)}", _AGAIN
        return
    if row.watermark_us > now_us + _AHEAD_US:
        yield (
            f"is accounted for up to {moment(row.watermark_us)}, which is yet to come: nothing of it fires before",
            "The clock was wrong once: actor-scheduler cron resume NAME lets the cron count from now.",
        )
    if same_rules and (wrong := _waits_wrongly(row, spec)) is not None:
        yield wrong, _MEND
    if row.origin not in ("manifest", "runtime"):
        yield f"is of unknown origin ({shown(row.origin)})", _AGAIN
    if zone is None and _counts_wrongly(raw, row, spec):
        yield "has a record with a wrong number of ticks that did not run", _RECORD


def _waits_wrongly(row: CronRow, spec: CronSpec) -> str | None:
    coming = None if row.paused else next_fire(spec, row.account)
    stands = (row.tick_us, row.fire_at_us)
    if stands == (coming or (None, None)):
        return None
    if coming is None:
        return f"waits for {_said(row.fire_at_us)}, though nothing of it is to fire"
    if row.fire_at_us is None:
        return f"waits for nothing, though it is to fire at {_said(coming.fire_at_us)}"
    return f"waits for {_said(row.fire_at_us)}, though it is to fire at {_said(coming.fire_at_us)}"


def _counts_wrongly(raw: sqlite3.Connection, row: CronRow, spec: CronSpec) -> bool:
    """Whether a stretch of ticks of today's definition has another number of them than the definition says."""
    ticks = spec.schedule.ticks(row.anchor_us)
    since_us = max(row.created_at_us, row.changed_at_us)
    return any(
        ticks.count(first_us - 1, last_us) != count
        for first_us, last_us, count in raw.execute(_SKIPS_OF, (row.name, since_us))
    )


# ------------------------------------------------------------------ ticks


def ticks(findings: Findings, raw: sqlite3.Connection) -> None:
    """Say where a tick is accounted for twice, or was forgotten."""
    looked = (
        (_BEYOND, "has a run of a tick after its watermark: the watermark was set back", _SET_BACK),
        (_SHAPE, "has a record of ticks that did not run which contradicts itself", _RECORD),
        (_OVERLAPS, "has two records of the same ticks that did not run", _RECORD),
        (_RAN, "has a run of a tick that is also on record as skipped", _RECORD),
    )
    for sql, what, do in looked:
        row = raw.execute(sql).fetchone()
        if row is not None:
            findings.warning(_named(_Wrong(row[0], row[1] - 1), what), do)


# ------------------------------------------------------------------ manifests


def manifests(findings: Findings, raw: sqlite3.Connection) -> None:
    """Say which manifest holds, and whether the crons that stand there are those it defines."""
    rows = raw.execute(_MANIFESTS).fetchall()
    if not rows:
        return
    by_state: dict[str, list[int]] = {}
    for version, state, _ in rows:
        by_state.setdefault(str(state), []).append(version)
    active, staged = by_state.get("active", []), by_state.get("staged", [])
    findings.fact("cron manifest", f"version {active[0]}" if active else "none is active")
    if strange := sorted(by_state.keys() - {"active", "staged", "retired"}):
        findings.warning(f"cron manifests are in unknown states: {', '.join(map(shown, strange))}", _ACTIVE_AGAIN)
    for which, what in ((active, "are active at once"), (staged, "wait to be activated at once")):
        if len(which) > 1:
            findings.warning(f"{len(which)} cron manifests {what}: {', '.join(map(str, which[:10]))}", _ACTIVE_AGAIN)
    if staged:
        findings.note(
            f"cron manifest {staged[0]} waits to be activated",
            f"actor-scheduler cron activate {shown(staged[0])} lets it hold.",
        )
    for version, state, definitions in rows:
        try:
            names = {name for name, _ in decode_definitions(definitions)}
        except InvalidCron:
            findings.warning(f"cron manifest {version} can't be read", "Start the app whose code defines it.")
            continue
        if state == "active" and len(active) == 1:
            _compare(findings, raw, version, names)


def _compare(findings: Findings, raw: sqlite3.Connection, version: int, names: set[str]) -> None:
    there = {name for (name,) in raw.execute(_DEFINED)}
    for apart, what in ((names - there, "is not there"), (there - names, "is there")):
        if apart:
            whose = "which it defines" if apart <= names else "which it does not define"
            findings.warning(
                _named(_Wrong(min(apart), len(apart) - 1), f"{what}, but cron manifest {version} holds, {whose}"),
                f"actor-scheduler cron activate {shown(version)} settles it.",
            )


# ------------------------------------------------------------------ words


def _named(wrong: _Wrong, what: str) -> str:
    more = f" (and {wrong.others} more)" if wrong.others else ""
    return f"cron {_quoted(wrong.first)}{more} {what}"


def _quoted(name: Any) -> str:
    return f"'{shown(name)}'"


def _said(moment_us: int | None) -> str:
    return str(moment(moment_us)) if moment_us is not None else "nothing"
