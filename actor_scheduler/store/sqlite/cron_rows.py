"""Reading crons and their manifests. Plain functions on any connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from actor_scheduler import codec
from actor_scheduler.crons.firing import Account
from actor_scheduler.crons.records import CronInfo, ManifestInfo
from actor_scheduler.crons.spec import CronSpec, Origin
from actor_scheduler.errors import InvalidArgs, InvalidCron
from actor_scheduler.limits import MISSED_AFTER_US, PAGE_MAX
from actor_scheduler.model import Entry, Page
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
_MANIFESTS: Final = ours(
    "SELECT version, digest, state, definitions, staged_at_us, activated_at_us FROM main._scheduler_manifests"
    " ORDER BY version DESC LIMIT ?"
)
_DEFINITIONS: Final = ours("SELECT definitions FROM main._scheduler_manifests WHERE version = ?")

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


def page(raw: sqlite3.Connection, prefix: str, after: str | None, limit: int, now_us: int) -> Page[CronInfo]:
    """Return up to `limit` crons whose names begin with `prefix`, by name, from after one. Raises InvalidArgs."""
    check_limit(limit)
    rows = read(raw, _PAGE, (prefix, prefix + _LAST, after if after is not None else "", limit + 1))
    items = [_info(CronRow(*row), now_us) for row in rows[:limit]]
    return Page(items, items[-1].name if len(rows) > limit else None)


def paths(raw: sqlite3.Connection) -> list[str]:
    """Return the path of every function that a cron runs, each once, however many crons there are."""
    return [path for (path,) in read(raw, _PATHS, ())]


def check_limit(limit: object) -> None:
    """Raise InvalidArgs for a limit outside 1 … PAGE_MAX."""
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
    check_limit(limit)
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
