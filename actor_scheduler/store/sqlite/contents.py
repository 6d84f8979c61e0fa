"""What stands in a database file: whether it is sound, and how its jobs fare. Only reads; any row may be garbage."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.ids import format_id
from actor_scheduler.limits import SECOND_US
from actor_scheduler.model import ACTIONS, MUTATIONS
from actor_scheduler.queues import PARKED, base_of
from actor_scheduler.store.sqlite import doctor_crons
from actor_scheduler.store.sqlite.faults import code_of, describe
from actor_scheduler.store.sqlite.findings import Findings, shown, shown_bytes, shown_span
from actor_scheduler.store.sqlite.schema import STEPS, TABLES
from actor_scheduler.store.sqlite.steering import SETTING

if TYPE_CHECKING:
    from collections.abc import Callable

_RESTORE: Final = (
    "Stop the app, keep the file and its log as they are, and restore the last backup; what that lacks can be got out "
    "of the damaged file with the .recover command of SQLite's shell."
)
_LATE_US: Final = 60 * SECOND_US  # an overdue job of a running app: longer than any of its own waits
_DAY_US: Final = 86_400 * SECOND_US
_POOL_SETTING: Final = f"{SETTING}pool:"
_STATES: Final = ("pending", "in_progress", "success", "failed", "canceled")
_FREE_PAGES_SHARE: Final = 0.5
_FREE_BYTES: Final = 64 << 20  # below this, giving pages back is not worth a stop
_LIMITED: Final = ("pool:", "fn:", "rate:")  # the beginnings of the queues of actions with limits of their own

_CRONS_SINCE: Final = 3  # the version of the schema
_MAKES: Final = re.compile(r"CREATE TABLE (\w+)")

_BY_STATE: Final = "SELECT state, count(*) FROM main._scheduler_jobs GROUP BY state"
_OVERDUE: Final = (
    "SELECT seq, nonce, path, fire_at_us FROM main._scheduler_jobs"
    " WHERE state = 'pending' AND queue < '~' AND fire_at_us <= ? ORDER BY fire_at_us LIMIT 1"
)
_RUNNING: Final = (
    "SELECT seq, nonce, path, started_at_us FROM main._scheduler_jobs WHERE state = 'in_progress'"
    " ORDER BY started_at_us LIMIT 1"
)
_FAILED: Final = (
    "SELECT coalesce(cause, '?'), count(*) FROM main._scheduler_jobs WHERE state = 'failed' AND completed_at_us > ?"
    " GROUP BY 1 ORDER BY 2 DESC, 1"
)
_LEFT_CLAIMS: Final = (
    "SELECT count(*) FROM main._scheduler_jobs WHERE state = 'in_progress' AND boot IS NOT"
    " (SELECT value FROM main._scheduler_meta WHERE name = 'boot_epoch')"
)
_QUEUES: Final = (
    "SELECT queue, count(*) FROM main._scheduler_jobs WHERE state = 'pending' GROUP BY queue ORDER BY queue"
)
_META: Final = "SELECT name, value FROM main._scheduler_meta"
_TABLES: Final = "SELECT name FROM main.sqlite_schema WHERE type = 'table'"


def examine(findings: Findings, raw: sqlite3.Connection, now_us: int, *, live: bool, thorough: bool) -> None:
    """Look at everything that stands in the file; what can't be read is said, and the rest is looked at all the same.

    `live`: an app has the file open, so whatever waits should be starting.
    """
    _try(findings, "whether the file is sound", lambda: _soundness(findings, raw, thorough=thorough))
    _try(findings, "references between tables", lambda: _references(findings, raw))
    _try(findings, "the pages", lambda: _pages(findings, raw, live=live))
    _try(findings, "which tables there are", lambda: _tables(findings, raw))
    _try(findings, "the file's own record", lambda: _record(findings, raw))
    _try(findings, "the jobs", lambda: _jobs(findings, raw))
    _try(findings, "what is overdue", lambda: _overdue(findings, raw, now_us, live=live))
    _try(findings, "what is running", lambda: _running(findings, raw, now_us, live=live))
    _try(findings, "what has failed", lambda: _failed(findings, raw, now_us))
    _try(findings, "the queues", lambda: _queues(findings, raw, live=live))
    if _version(raw) >= _CRONS_SINCE:
        _try(findings, "the crons", lambda: doctor_crons.crons(findings, raw, now_us, live=live))
        _try(findings, "what became of ticks", lambda: doctor_crons.ticks(findings, raw))
        _try(findings, "the cron manifests", lambda: doctor_crons.manifests(findings, raw))


def _version(raw: sqlite3.Connection) -> int:
    version: int = raw.execute("PRAGMA user_version").fetchone()[0]
    return version


def _try(findings: Findings, what: str, look: Callable[[], None]) -> None:
    try:
        look()
    except sqlite3.Error as error:
        if code_of(error) == sqlite3.SQLITE_INTERRUPT:
            findings.note(
                f"{what} took too long to find out, and was given up", "Ask again when the machine has less to do."
            )
        elif code_of(error) == sqlite3.SQLITE_CORRUPT:
            findings.error(f"the file is damaged: {what} can't be read", _RESTORE)
        else:
            findings.error(f"{what} can't be read: {describe(error)}", _RESTORE)


# ------------------------------------------------------------------ the file


def _soundness(findings: Findings, raw: sqlite3.Connection, *, thorough: bool) -> None:
    check = "integrity_check" if thorough else "quick_check"
    # One row may hold many lines, the first of which only names the database.
    rows = [str(text) for (text,) in raw.execute(f"PRAGMA {check}(20)")]
    found = [line for row in rows for line in row.split("\n") if not line.startswith("***")]
    findings.fact(check.replace("_", " "), "ok" if found == ["ok"] else f"{len(found)} findings")
    if found != ["ok"]:
        findings.error(f"the file is damaged: {'; '.join(found[:3])}", _RESTORE)


def _references(findings: Findings, raw: sqlite3.Connection) -> None:
    broken = raw.execute("PRAGMA foreign_key_check").fetchmany(100)
    if broken:
        table, rowid, parent = broken[0][:3]
        many = f"{len(broken)}{' or more' if len(broken) == 100 else ''}"
        findings.warning(
            f"{many} rows refer to rows that are not there; the first is row {shown(rowid)} of {shown(table)}, "
            f"to {shown(parent)}",
            "Mend them in a mutation. The app can't leave such rows: look for another program that writes the file.",
        )


def _pages(findings: Findings, raw: sqlite3.Connection, *, live: bool) -> None:
    pages, size, free = (
        int(raw.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size", "freelist_count")
    )
    findings.fact("pages", f"{pages} of {size} bytes, {free} of them free")
    if live:  # of a closed file SQLite does not say, and an app sets it when it starts
        mode = raw.execute("PRAGMA journal_mode").fetchone()[0]
        findings.fact("journal mode", str(mode))
        if mode != "wal":
            findings.error(
                f"the file is in journal mode {mode} while an app uses it",
                "Somebody changed it: stop whatever else opens the file, and restart the app.",
            )
    if free * size >= _FREE_BYTES and free >= pages * _FREE_PAGES_SHARE:
        findings.note(
            f"{shown_bytes(free * size)} of the file are free pages, which new jobs use first",
            "To give them back to the disk, stop the app and run VACUUM.",
        )


def _tables(findings: Findings, raw: sqlite3.Connection) -> None:
    there = {name for (name,) in raw.execute(_TABLES)}
    later = {name for step in STEPS[_version(raw) :] for sql in step for name in _MAKES.findall(sql)}
    if missing := sorted(TABLES - later - there):
        findings.error(f"tables of the scheduler are missing: {', '.join(missing)}", _RESTORE)


def _record(findings: Findings, raw: sqlite3.Connection) -> None:
    meta = dict(raw.execute(_META).fetchall())
    findings.fact("database", f"{shown(meta.get('db_uuid'))}, {shown(meta.get('boot_epoch'))} starts")
    steps = raw.execute("SELECT count(*) FROM main._scheduler_schema_steps").fetchone()[0]
    findings.fact("app's schema steps", str(steps))
    if missing := [name for name in ("db_uuid", "boot_epoch", "seq_reserved") if name not in meta]:
        findings.error(f"the file's own record lacks {', '.join(missing)}", _RESTORE)
    for name, value in sorted((str(name), value) for name, value in meta.items()):
        if name == f"{SETTING}paused":
            findings.warning(
                f"dispatch is paused: {shown(value)}", "Nothing starts before it is resumed: actor-scheduler resume."
            )
        elif name.startswith(_POOL_SETTING) and value == 0:
            pool = shown(name.removeprefix(_POOL_SETTING))
            findings.note(f"pool {pool} is paused: its limit is 0", "actor-scheduler pools set lets it go on.")


# ------------------------------------------------------------------ the jobs


def _jobs(findings: Findings, raw: sqlite3.Connection) -> None:
    counted = {str(state): int(count) for state, count in raw.execute(_BY_STATE)}
    findings.jobs.update({state: counted.get(state, 0) for state in _STATES})
    findings.fact("jobs", ", ".join(f"{count} {state}" for state, count in findings.jobs.items()))
    if strange := sorted(counted.keys() - set(_STATES)):
        count = sum(counted[state] for state in strange)
        findings.error(f"{count} jobs are in a state that does not exist: {', '.join(map(shown, strange))}", _RESTORE)


def _overdue(findings: Findings, raw: sqlite3.Connection, now_us: int, *, live: bool) -> None:
    row = raw.execute(_OVERDUE, (now_us,)).fetchone()
    if row is None:
        return
    late_us = _since(now_us, row[3])
    what = f"the longest overdue job is {_named(row)}, for {shown_span(late_us)}"
    if not live:
        findings.note(what, "It runs when the app starts.")
    elif late_us >= _LATE_US:
        findings.warning(
            what,
            "The app runs, but does not get to it. actor-scheduler stats shows whether it is ready, actor-scheduler "
            "pools list what is full; its log names long mutations.",
        )


def _running(findings: Findings, raw: sqlite3.Connection, now_us: int, *, live: bool) -> None:
    row = raw.execute(_RUNNING).fetchone()
    if row is None:
        return
    what = f"the longest running action is {_named(row)}, for {shown_span(_since(now_us, row[3]))}"
    if not live:
        findings.note(what, "Its process has ended: the next start fails it (interrupted), or retries it.")
        return
    findings.fact("longest running", f"{_named(row)}, for {shown_span(_since(now_us, row[3]))}")
    (left,) = raw.execute(_LEFT_CLAIMS).fetchone()
    if left:
        findings.warning(
            f"{left} actions are in progress for a process that has ended",
            "The start of the app should have settled them: restart it.",
        )


def _failed(findings: Findings, raw: sqlite3.Connection, now_us: int) -> None:
    since_us = max(min(now_us - _DAY_US, (1 << 63) - 1), -(1 << 63))
    causes = raw.execute(_FAILED, (since_us,)).fetchall()
    if not causes:
        return
    total = sum(int(count) for _, count in causes)
    said = ", ".join(f"{count} {shown(cause)}" for cause, count in causes[:10])
    findings.note(
        f"{total} jobs failed in the last 24 hours: {said}",
        "actor-scheduler jobs list --state failed shows them; actor-scheduler jobs retry ID runs one again.",
    )


def _queues(findings: Findings, raw: sqlite3.Connection, *, live: bool) -> None:
    queues = [(str(queue), int(count)) for queue, count in raw.execute(_QUEUES)]
    if queues:
        more = f" and {len(queues) - 8} more" if len(queues) > 8 else ""
        findings.fact("waiting in", ", ".join(f"{queue} {count}" for queue, count in queues[:8]) + more)
    bases = {queue: base_of(queue.removeprefix(PARKED)) for queue, _ in queues}
    strange = [
        queue for queue, base in bases.items() if base not in (MUTATIONS, ACTIONS) and not base.startswith(_LIMITED)
    ]
    if strange:
        count = sum(count for queue, count in queues if queue in strange)
        say = findings.warning if live else findings.note
        say(
            f"{count} jobs wait in queues that nobody serves: {', '.join(map(shown, strange[:5]))}",
            "The next start of the app moves them to where they belong.",
        )


def _named(row: Any) -> str:
    seq, nonce, path = row[:3]
    name = format_id(seq, nonce) if isinstance(seq, int) and isinstance(nonce, int) else f"{shown(seq)}"
    return f"{name} ({shown(path)})"


def _since(now_us: int, moment_us: Any) -> int:
    return now_us - moment_us if isinstance(moment_us, int) else 0
