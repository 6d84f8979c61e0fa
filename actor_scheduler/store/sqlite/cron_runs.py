"""What became of ticks: runs, and stretches of ticks that were skipped, merged newest first. Read from any connection.

Runs and skips stand in different tables, each in an order of its own that an index has.  A page walks every one of them
in its order, and its cursor has a position in each: so however many rows are of one moment, each comes exactly once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from actor_scheduler.crons.records import CronRun
from actor_scheduler.crons.spec import RunNote
from actor_scheduler.errors import InvalidArgs
from actor_scheduler.ids import format_id
from actor_scheduler.limits import LOOK_MAX
from actor_scheduler.model import Page
from actor_scheduler.store.sqlite.cron_rows import check_limit
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.job_rows import moment, read

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from actor_scheduler.crons.records import RunState

_RUN: Final = (
    "cron, coalesce(tick_us, scheduled_at_us), state, cause, cron_run, tick_us IS NULL, seq, nonce, attempt,"
    " started_at_us, completed_at_us, error, coalesce(length(result), 0)"
)
_SKIP: Final = "cron, reason, first_tick_us, last_tick_us, ticks"
_NOT_STARTED: Final = frozenset({"stale_manifest", "paused", "disabled"})  # why an occurrence was canceled
_SKIPPED: Final = "state = 'canceled' AND cause IN ('stale_manifest', 'paused', 'disabled')"
_STATES: Final[dict[RunState, str]] = {
    "pending": "state = 'pending'",
    "in_progress": "state = 'in_progress'",
    "success": "state = 'success'",
    "failed": "state = 'failed'",
    "canceled": f"state = 'canceled' AND NOT coalesce({_SKIPPED}, 0)",
    "skipped": _SKIPPED,
}
_ANY: Final = "1"
_LAST: Final = (1 << 63) - 1

_Place: TypeAlias = "tuple[int, ...]"


class _Line(NamedTuple):
    """A part of one table, in the order of an index, the newest first."""

    table: str  # with its index
    where: str
    values: tuple[str, ...]
    shown: str  # columns
    place: tuple[str, ...]  # the columns of the order: no two rows share their values
    at: str  # the column of the moment by which lines are merged
    make: Callable[[Sequence[Any]], CronRun]

    def read(
        self,
        raw: sqlite3.Connection,
        which: str,
        values: _Place,
        places: Mapping[str, _Place | None],
        limit: int,
    ) -> list[_Found]:
        """Return up to `limit` rows that fit, between these places."""
        place = ", ".join(self.place)
        between, at = self._between(places)
        sql = (
            f"SELECT {self.at}, {place}, {self.shown} FROM {self.table} WHERE {self.where}{between} AND {which}"
            f" ORDER BY {self._order} LIMIT ?"
        )
        rows = read(raw, ours(sql), (*self.values, *at, *values, limit))
        shown = 1 + len(self.place)
        return [_Found(row[0], row[1:shown], self.make(row[shown:])) for row in rows]

    def floor(self, raw: sqlite3.Connection, after: _Place | None) -> _Found | None:
        """Return where the next LOOK_MAX rows end; None when there are not as many."""
        between, at = self._between({"<": after})
        sql = (
            f"SELECT {self.at}, {', '.join(self.place)} FROM {self.table} WHERE {self.where}{between}"
            f" ORDER BY {self._order} LIMIT 1 OFFSET ?"
        )
        row = raw.execute(ours(sql), (*self.values, *at, LOOK_MAX - 1)).fetchone()
        return _Found(row[0], row[1:], None) if row is not None else None

    def _between(self, places: Mapping[str, _Place | None]) -> tuple[str, list[int]]:
        columns, marks = ", ".join(self.place), ", ".join("?" * len(self.place))
        given = {compared: place for compared, place in places.items() if place is not None}
        between = "".join(f" AND ({columns}) {compared} ({marks})" for compared in given)
        return between, [number for place in given.values() for number in place]

    @property
    def _order(self) -> str:
        return ", ".join(f"{column} DESC" for column in self.place)


class _Found(NamedTuple):
    at_us: int
    place: _Place
    run: CronRun | None  # None where a line was looked through as far as one page looks


def _lines(name: str | None) -> list[_Line]:
    """Return what is to be merged: of one cron by its ticks, those by hand by when they were asked for; or of all."""
    jobs = "main._scheduler_jobs INDEXED BY _scheduler_jobs"
    skips = "main._scheduler_skips INDEXED BY _scheduler_skips"
    if name is None:
        return [
            _Line(f"{jobs}_cron", "cron IS NOT NULL", (), _RUN, ("seq",), "created_at_us", _run),
            _Line(f"{skips}_recorded", "1", (), _SKIP, ("recorded_at_us", "id"), "recorded_at_us", _skip),
        ]
    of = "cron = ? AND cron IS NOT NULL AND tick_us IS NOT NULL"
    by_hand = "cron = ? AND cron IS NOT NULL AND tick_us IS NULL"
    return [
        _Line(f"{jobs}_tick", of, (name,), _RUN, ("tick_us",), "tick_us", _run),
        _Line(f"{jobs}_tick", by_hand, (name,), _RUN, ("seq",), "created_at_us", _run),
        _Line(f"{skips}_cron", "cron = ?", (name,), _SKIP, ("last_tick_us", "id"), "last_tick_us", _skip),
    ]


def runs(
    raw: sqlite3.Connection, name: str | None, limit: int, before_us: int | None, state: RunState | None = None
) -> list[CronRun]:
    """Return the newest runs and skips of a cron by their ticks, or of all crons by when they were written.

    A run by hand stands where it was asked for.  With `before_us` only what is older.
    """
    check_limit(limit)
    values = (before_us,) if before_us is not None else ()
    found: list[_Found] = []
    for line in _lines(name):
        which = _which(line, state)
        if which is not None:
            older = f"{which} AND {line.at} < ?" if values else which
            found += line.read(raw, older, values, {}, limit)
    found.sort(key=lambda each: each.at_us, reverse=True)
    return [each.run for each in found[:limit] if each.run is not None]


def page(
    raw: sqlite3.Connection, name: str | None, state: RunState | None, cursor: str | None, limit: int
) -> Page[CronRun]:
    """Return one page of the same; with a state it may be short though it is not the last.

    What is there when the walk begins comes exactly once, however many rows are of one moment; what is written
    meanwhile, or a skip that grows, is news, for the next walk.  Raises InvalidArgs.
    """
    check_limit(limit)
    lines = _lines(name)
    places = _places(cursor, lines)
    heads: list[list[_Found]] = []
    for line, place in zip(lines, places, strict=True):
        which = _which(line, state)
        heads.append([] if which is None else _look(raw, line, place, which, limit)[::-1])
    items: list[CronRun] = []
    while len(items) < limit and (waiting := [at for at, head in enumerate(heads) if head]):
        newest = max(waiting, key=lambda at: heads[at][-1].at_us)
        _, places[newest], run = heads[newest].pop()
        if run is None:  # what follows here is not known yet, and may come before what follows elsewhere
            return Page(items, _cursor(places))
        items.append(run)
    return Page(items, _cursor(places) if any(heads) else None)


def _look(raw: sqlite3.Connection, line: _Line, after: _Place | None, which: str, limit: int) -> list[_Found]:
    """Return what a page may need of a line, in a bounded look."""
    floor = line.floor(raw, after) if which != _ANY else None
    found = line.read(raw, which, (), {"<": after, ">=": floor.place if floor is not None else None}, limit + 1)
    return found if floor is None or len(found) > limit else [*found, floor]


def _which(line: _Line, state: RunState | None) -> str | None:
    """Return what a row must be like; None when none of this line can be."""
    if line.make is _skip:
        return _ANY if state in (None, "skipped") else None
    return _ANY if state is None else f"({_STATES[state]})"


def _cursor(places: Sequence[_Place | None]) -> str:
    return ".".join("_".join(map(str, place)) if place is not None else "" for place in places)


def _places(cursor: object, lines: Sequence[_Line]) -> list[_Place | None]:
    """Return a place in each line; None before the first row. Raises InvalidArgs for what is no cursor of these."""
    if cursor is None:
        return [None] * len(lines)
    parts = cursor.split(".") if isinstance(cursor, str) else []
    places: list[_Place | None] = []
    try:
        places = [tuple(map(int, part.split("_"))) if part else None for part in parts]
    except ValueError:
        parts = []
    sizes = [len(line.place) for line in lines]
    given = [size if place is None else len(place) for size, place in zip(sizes, places, strict=False)]
    if given != sizes or len(parts) != len(lines) or any(abs(at) > _LAST for place in places for at in place or ()):
        msg = "cursor must be the next_cursor of an earlier page of the same runs"
        raise InvalidArgs(msg)
    return places


def _run(row: Sequence[Any]) -> CronRun:
    cron, tick_us, state, cause, told, manual, seq, nonce, attempt, started_us, ended_us, error, size = row
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


def _skip(row: Sequence[Any]) -> CronRun:
    cron, reason, first_us, last_us, ticks = row
    return CronRun(
        cron=cron,
        tick=moment(last_us),
        first_tick=moment(first_us),
        state="skipped",
        reason=reason,
        ticks=ticks,
        skipped=ticks,
    )
