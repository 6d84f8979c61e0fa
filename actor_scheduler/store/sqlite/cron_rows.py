"""Reading crons, what became of their ticks, and their manifests. Plain functions on any connection."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from actor_scheduler import codec
from actor_scheduler.crons.firing import Account
from actor_scheduler.crons.records import CronInfo, CronRun, ManifestInfo
from actor_scheduler.crons.spec import CronSpec, Origin, RunNote
from actor_scheduler.errors import InvalidArgs, InvalidCron
from actor_scheduler.ids import format_id
from actor_scheduler.limits import MISSED_AFTER_US, PAGE_MAX
from actor_scheduler.model import Entry
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.job_rows import moment, read

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

COLUMNS: Final = (
    "id, name, origin, spec, path, anchor_us, watermark_us, tick_us, fire_at_us, skipped, paused_at_us, note, trouble,"
    " created_at_us, changed_at_us"
)
_GET: Final = ours(f"SELECT {COLUMNS} FROM main._scheduler_crons WHERE name = ?")
_MANY: Final = ours(f"SELECT {COLUMNS} FROM main._scheduler_crons WHERE id IN (SELECT value FROM json_each(?))")
_OF_MANIFEST: Final = ours(
    f"SELECT {COLUMNS} FROM main._scheduler_crons INDEXED BY _scheduler_crons_manifest WHERE origin = 'manifest'"
)
_PAGE: Final = ours(
    f"SELECT {COLUMNS} FROM main._scheduler_crons WHERE name >= ? AND name < ? AND name > ? ORDER BY name LIMIT ?"
)
_WINDOW: Final = ours(
    "SELECT fire_at_us, id FROM main._scheduler_crons WHERE fire_at_us IS NOT NULL AND (fire_at_us, id) > (?, ?)"
    " ORDER BY fire_at_us, id LIMIT ?"
)
_PATHS: Final = ours(
    "WITH RECURSIVE used(target) AS (SELECT min(path) FROM main._scheduler_crons UNION ALL SELECT (SELECT min(path)"
    " FROM main._scheduler_crons AS cron WHERE cron.path > used.target) FROM used WHERE used.target IS NOT NULL)"
    " SELECT target FROM used WHERE target IS NOT NULL"
)
_RUN: Final = (
    "SELECT cron, coalesce(tick_us, scheduled_at_us), state, cause, cron_run, tick_us IS NULL, seq, nonce, attempt,"
    " started_at_us, completed_at_us, error, coalesce(length(result), 0), created_at_us FROM main._scheduler_jobs"
)
_RUNS_OF: Final = ours(f"{_RUN} WHERE cron = ? AND cron IS NOT NULL AND tick_us <= ? ORDER BY tick_us DESC LIMIT ?")
_BY_HAND: Final = ours(
    f"{_RUN} WHERE cron = ? AND cron IS NOT NULL AND tick_us IS NULL AND created_at_us <= ? ORDER BY seq DESC LIMIT ?"
)
_RUNS: Final = ours(
    f"{_RUN} INDEXED BY _scheduler_jobs_cron WHERE cron IS NOT NULL AND created_at_us <= ? ORDER BY seq DESC LIMIT ?"
)
_SKIP: Final = "SELECT cron, reason, first_tick_us, last_tick_us, ticks, recorded_at_us FROM main._scheduler_skips"
_SKIPS_OF: Final = ours(f"{_SKIP} WHERE cron = ? AND last_tick_us <= ? ORDER BY last_tick_us DESC LIMIT ?")
_SKIPS: Final = ours(f"{_SKIP} WHERE recorded_at_us <= ? ORDER BY recorded_at_us DESC, id DESC LIMIT ?")
_MANIFESTS: Final = ours(
    "SELECT version, digest, state, definitions, staged_at_us, activated_at_us FROM main._scheduler_manifests"
    " ORDER BY version DESC LIMIT ?"
)
_DEFINITIONS: Final = ours("SELECT definitions FROM main._scheduler_manifests WHERE version = ?")

_NEVER_US: Final = (1 << 63) - 1
_NOT_STARTED: Final = frozenset({"stale_manifest", "paused", "disabled"})  # why an occurrence was canceled
_LAST: Final = "\x7f"  # sorts after every character of a name
_DAMAGED: Final = "what is stored of a cron manifest is damaged"
_DEFINITIONS_BYTES_MAX: Final = 64 << 20


class CronRow(NamedTuple):
    """One row, as it stands in the file."""

    id: int
    name: str
    origin: Origin
    spec: bytes
    path: str
    anchor_us: int
    watermark_us: int
    tick_us: int | None
    fire_at_us: int | None
    skipped: int
    paused_at_us: int | None
    note: str
    trouble: str | None
    created_at_us: int
    changed_at_us: int

    @property
    def paused(self) -> bool:
        """Whether somebody has paused it."""
        return self.paused_at_us is not None

    @property
    def account(self) -> Account:
        """How far it is accounted for."""
        return Account(self.anchor_us, self.watermark_us, self.skipped)

    def decode(self) -> CronSpec:
        """Return the definition. Raises InvalidCron."""
        return CronSpec.decode(self.name, self.spec)


def get(raw: sqlite3.Connection, name: str) -> CronRow | None:
    """Return the cron of this name, or None."""
    rows = read(raw, _GET, (name,))
    return CronRow(*rows[0]) if rows else None


def many(raw: sqlite3.Connection, ids: Sequence[int]) -> dict[int, CronRow]:
    """Return crons by their numbers."""
    return {row[0]: CronRow(*row) for row in read(raw, _MANY, (str(list(ids)),))}


def of_manifest(raw: sqlite3.Connection) -> dict[str, CronRow]:
    """Return the crons that the active manifest defines, by name."""
    return {row[1]: CronRow(*row) for row in read(raw, _OF_MANIFEST, ())}


def window(raw: sqlite3.Connection, after: Entry, limit: int) -> list[Entry]:
    """Return the next crons to fire after `after`, in order. Through the partial index: O(limit)."""
    return [Entry(*row) for row in raw.execute(_WINDOW, (*after, limit))]


# ------------------------------------------------------------------ for callers


def info(raw: sqlite3.Connection, name: str, now_us: int) -> CronInfo | None:
    """Return how a cron stands, or None."""
    row = get(raw, name)
    return _info(row, now_us) if row is not None else None


def page(raw: sqlite3.Connection, prefix: str, after: str | None, limit: int, now_us: int) -> list[CronInfo]:
    """Return up to `limit` crons whose names begin with `prefix`, by name, from after one. Raises InvalidArgs."""
    _check_limit(limit)
    rows = read(raw, _PAGE, (prefix, prefix + _LAST, after if after is not None else "", limit))
    return [_info(CronRow(*row), now_us) for row in rows]


def paths(raw: sqlite3.Connection) -> list[str]:
    """Return the path of every function that a cron runs, each once, however many crons there are."""
    return [path for (path,) in read(raw, _PATHS, ())]


def _check_limit(limit: object) -> None:
    if type(limit) is not int or not 1 <= limit <= PAGE_MAX:
        msg = f"limit must be from 1 to {PAGE_MAX}, not {limit!r:.40}"
        raise InvalidArgs(msg)


def _info(row: CronRow, now_us: int) -> CronInfo:
    spec, trouble, args = None, row.trouble, {}
    if row.watermark_us > now_us + MISSED_AFTER_US:
        ahead = f"the clock was set back: its ticks are accounted for up to {moment(row.watermark_us)}"
        trouble = trouble or f"{ahead}; resume({row.name!r}) lets it count from now"
    try:
        spec = row.decode()
        args = codec.decode(spec.args)
    except InvalidArgs as error:
        trouble = trouble or str(error)
    if not isinstance(args, dict):
        args, trouble = {}, trouble or "the stored arguments are not a map"
    waits = row.fire_at_us is not None and row.tick_us is not None
    return CronInfo(
        name=row.name,
        schedule=spec.schedule if spec is not None else None,
        path=row.path,
        args=args,
        next_at=moment(row.tick_us) if waits and row.tick_us is not None else None,
        accounted_to=moment(row.watermark_us),
        anchored_at=moment(row.anchor_us),
        paused=row.paused,
        note=row.note,
        origin=row.origin,
        trouble=trouble,
        spec=spec,
    )


# ------------------------------------------------------------------ what became of ticks


def runs(raw: sqlite3.Connection, name: str | None, limit: int, before_us: int | None) -> list[CronRun]:
    """Return the newest runs and skips of a cron by their ticks, or of all crons by when they were written.

    A run by hand stands where it was asked for.  With `before_us` only what is older.
    """
    _check_limit(limit)
    asked = (before_us - 1 if before_us is not None else _NEVER_US, limit)
    if name is not None:
        found = [(row[1], _run(row)) for row in read(raw, _RUNS_OF, (name, *asked))]
        found += [(row[13], _run(row)) for row in read(raw, _BY_HAND, (name, *asked))]
        found += [(row[3], _skip(row)) for row in read(raw, _SKIPS_OF, (name, *asked))]
    else:
        found = [(row[13], _run(row)) for row in read(raw, _RUNS, asked)]
        found += [(row[5], _skip(row)) for row in read(raw, _SKIPS, asked)]
    found.sort(key=lambda dated: dated[0], reverse=True)
    return [run for _, run in found[:limit]]


def _run(row: tuple[Any, ...]) -> CronRun:
    cron, tick_us, state, cause, told, manual, seq, nonce, attempt, started_us, ended_us, error, size, _ = row
    skipped = state == "canceled" and cause in _NOT_STARTED
    started = moment(started_us) if started_us is not None else None
    tick = moment(tick_us)
    return CronRun(
        cron=cron,
        tick=tick,
        first_tick=tick,
        state="skipped" if skipped else state,
        reason=cause if skipped else None,
        ticks=0 if manual else 1,
        skipped=1 if skipped else RunNote.decode(told).skipped,
        manual=bool(manual),
        job_id=format_id(seq, nonce),
        attempts=attempt,
        started_at=started,
        duration=_span(started_us, ended_us) if cause != "interrupted" else None,
        lag=_span(tick_us, started_us) if not manual else None,
        error=error,
        result_bytes=size,
    )


def _span(from_us: int | None, to_us: int | None) -> timedelta | None:
    if from_us is None or to_us is None:
        return None
    return max(timedelta(microseconds=to_us - from_us), timedelta())


def _skip(row: tuple[Any, ...]) -> CronRun:
    cron, reason, first_us, last_us, ticks, _ = row
    return CronRun(
        cron=cron,
        tick=moment(last_us),
        first_tick=moment(first_us),
        state="skipped",
        reason=reason,
        ticks=ticks,
        skipped=ticks,
    )


# ------------------------------------------------------------------ manifests


def encode_definitions(specs: Iterable[CronSpec]) -> bytes:
    """Return the definitions of a manifest as bytes. Raises LimitExceeded for too many, some 30,000."""
    listed = [[spec.name, spec.encode()] for spec in sorted(specs, key=lambda spec: spec.name)]
    return codec.encode(listed, bytes_max=_DEFINITIONS_BYTES_MAX)


def decode_definitions(data: bytes) -> list[tuple[str, bytes]]:
    """Return the names and the definitions of a manifest. Raises InvalidCron when they are damaged."""
    try:
        listed = [(name, spec) for name, spec in cast("list[list[Any]]", codec.decode(data))]
    except (InvalidArgs, TypeError, ValueError) as error:
        raise InvalidCron(_DAMAGED) from error
    if not all(isinstance(name, str) and isinstance(spec, bytes) for name, spec in listed):
        raise InvalidCron(_DAMAGED)
    return listed


def _names(definitions: bytes) -> tuple[str, ...]:
    try:
        return tuple(name for name, _ in decode_definitions(definitions))
    except InvalidCron:
        return ()


def manifests(raw: sqlite3.Connection, limit: int) -> list[ManifestInfo]:
    """Return the newest manifests; without the names of one that is damaged."""
    _check_limit(limit)
    return [
        ManifestInfo(
            version=version,
            digest=digest,
            state=state,
            crons=_names(definitions),
            staged_at=moment(staged_us),
            activated_at=moment(activated_us) if activated_us is not None else None,
        )
        for version, digest, state, definitions, staged_us, activated_us in read(raw, _MANIFESTS, (limit,))
    ]


def definitions(raw: sqlite3.Connection, version: int) -> list[tuple[str, bytes]]:
    """Return what a manifest defines. Raises InvalidArgs when there is no such version, or it is damaged."""
    row = raw.execute(_DEFINITIONS, (version,)).fetchone()
    if row is None:
        msg = f"there is no cron manifest {version}"
        raise InvalidArgs(msg)
    return decode_definitions(row[0])


def specs(raw: sqlite3.Connection, version: int) -> list[CronSpec]:
    """Return the definitions of a manifest. Raises InvalidArgs, InvalidCron."""
    return [CronSpec.decode(name, data) for name, data in definitions(raw, version)]
