"""The watch over simulated crons: it reads the file after every commit, and judges what the commit did to each cron.

It knows what was asked in a turn, and from that what every cron may look like after it; what the turn brought to
account, `cron_rules.judge` holds against the written rules.  So a tick that is lost, doubled, early, or dropped for a
reason that was none is seen in the very commit that did it.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from actor_scheduler import codec
from actor_scheduler.ids import format_id
from actor_scheduler.times import to_datetime
from tests.proof.ticks import at
from tests.simulation.cron_rules import Definition, Piece, Run, Seen, Settling, judge, piece, read_definition

LANE: Final = "@cron/"
_CRONS: Final = (
    "SELECT id, name, origin, spec, anchor_us, watermark_us, skipped, paused_at_us, tick_us, fire_at_us, trouble"
    " FROM _scheduler_crons"
)
_JOBS: Final = (
    "SELECT seq, nonce, cron, tick_us, scheduled_at_us, fire_at_us, lane, occurrence_id, cron_run, path, args"
    " FROM _scheduler_jobs INDEXED BY _scheduler_jobs_cron WHERE cron IS NOT NULL AND seq > ? ORDER BY seq"
)
_BUSY: Final = (
    "SELECT lane, count(*) FROM _scheduler_jobs WHERE lane IS NOT NULL AND state IN ('pending', 'in_progress')"
    " GROUP BY lane"
)
_SKIPS: Final = "SELECT id, reason, first_tick_us, last_tick_us, ticks FROM _scheduler_skips WHERE cron = ? ORDER BY id"
_LEFT: Final = (
    "SELECT count(*) FROM _scheduler_jobs WHERE cron = ? AND cron IS NOT NULL AND state = 'pending' AND attempt = 0"
    " AND tick_us IS NOT NULL AND seq <= ? AND seq <> ?"
)
_UNFINISHED: Final = (
    "SELECT count(*) FROM _scheduler_jobs WHERE cron IS NOT NULL AND state IN ('pending', 'in_progress')"
)
_ENDED: Final = (
    "SELECT cron, state, cause, kind, completed_at_us, (SELECT count(*) FROM effects WHERE job = printf('%016x%016x',"
    " seq, nonce)) FROM _scheduler_jobs WHERE cron IS NOT NULL"
)


class Op(NamedTuple):
    """Something that was asked of a cron, or (`stage`) of all that the code defines."""

    do: str  # put, change (its options), anew (its schedule, too), delete, pause, resume, run, dispatch, stage
    name: str = ""
    value: Any = None
    own_seq: int = 0  # the run that asks
    at_us: int | None = None  # the time to go by, when it is not the clock's


@dataclass(slots=True)
class Expected:
    """How a cron should stand after what was asked, but for the ticks that were brought to account."""

    row: Seen | None
    pieces: list[Piece] = field(default_factory=list)
    forgets: bool = False  # its occurrences that have not started
    own_seq: int = 0
    resumed: bool = False
    named_us: int | None = None
    by_hand: list[int] = field(default_factory=list)


class Watch:
    """What was seen of the crons of one file. `findings` is what was wrong, and with which cron."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: sqlite3.Connection | None = None
        self.rows: dict[int, Seen] = {}
        self.runs: dict[str, Run] = {}  # by the job's id
        self.ran: set[tuple[str, int]] = set()
        self.findings: list[tuple[str, str]] = []
        self.dropped: Counter[str] = Counter()
        self.changed: set[str] = set()  # those whose ticks were not those of one definition all along
        self.forgotten: defaultdict[str, list[int]] = defaultdict(list)  # when a definition ceased to hold
        self.fires = 0
        self._skips: defaultdict[str, dict[tuple[int, int], tuple[Any, ...]]] = defaultdict(dict)
        self._busy: Counter[str] = Counter()
        self._last_seq = 0
        self._moments: dict[tuple[str, int], int] = {}  # of jitter: when a tick fires
        self._now_us = 0
        self._asked_us = 0  # the same, for what is being asked

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def by_name(self) -> dict[str, Seen]:
        """Return the crons that there are."""
        return {row.definition.name: row for row in self.rows.values()}

    # ------------------------------------------------------------ looking

    def look(self, now_us: int, ops: Sequence[Op], due: Mapping[int, int], *, maybe: bool = False) -> None:
        """Read the file after a turn: `due` are the crons that it was to fire. `maybe`: the commit may not have been."""
        if self._file is None:
            if not self._path.exists():
                return
            self._file = sqlite3.connect(self._path, isolation_level=None)
        try:
            rows = {row.id: row for row in map(_seen, self._file.execute(_CRONS))}
        except sqlite3.OperationalError:
            return  # it has no tables yet
        fresh = [_run(values) for values in self._file.execute(_JOBS, (self._last_seq,))]
        busy = Counter({lane.removeprefix(LANE): number for lane, number in self._file.execute(_BUSY)})
        self._now_us = now_us
        if not maybe or rows != self.rows or fresh:
            self._compare(rows, fresh, busy, ops, due)
        self.rows, self._busy = rows, busy
        self.runs.update({run.id: run for run in fresh})
        self.ran.update((run.cron, run.tick_us) for run in fresh if run.tick_us is not None)
        self._last_seq = max([self._last_seq, *(run.seq for run in fresh)])

    def _find(self, name: str, what: str) -> None:
        self.findings.append((name, f"{what} (at {at(self._now_us)})"))

    def _compare(
        self, rows: dict[int, Seen], fresh: list[Run], busy: Counter[str], ops: Sequence[Op], due: Mapping[int, int]
    ) -> None:
        before = {row.definition.name: row for row in self.rows.values()}
        after = {row.definition.name: row for row in rows.values()}
        expected = self._after(before, ops)
        runs: defaultdict[str, list[Run]] = defaultdict(list)
        for run in fresh:
            runs[run.cron].append(run)
        for name in sorted(before.keys() | after.keys() | expected.keys() | runs.keys()):
            was, now = before.get(name), after.get(name)
            if was == now and name not in expected and not runs[name] and not (was and was.id in due):
                continue
            told = expected.get(name) or Expected(was)
            self._compare_one(name, told, now, runs[name], self._possible(name, busy, runs[name]), due)

    def _possible(self, name: str, busy: Counter[str], runs: list[Run]) -> range:
        """Return how many runs of a cron may have been unfinished when it fired: they may end in the same turn."""
        by_hand = sum(run.tick_us is None and run.lane is not None for run in runs)
        ticked = sum(run.tick_us is not None and run.lane is not None for run in runs)
        numbers = (self._busy[name], busy[name] - ticked, self._busy[name] + by_hand)
        return range(max(min(numbers), 0), max(numbers) + 1)

    # ------------------------------------------------------------ one cron, one commit

    def _compare_one(
        self, name: str, told: Expected, now: Seen | None, runs: list[Run], busy: range, due: Mapping[int, int]
    ) -> None:
        row = told.row
        ticked = tuple(run for run in runs if run.tick_us is not None)
        self._check_runs(told, row or now, runs)
        pieces = self._new_pieces(name)
        if told.forgets:
            self._check_forgotten(name, told.own_seq)
        if row is None or now is None:
            if row is not None or now is not None:
                self._find(name, "is gone" if row is not None else "is there, and should not be")
            if tuple(pieces) != tuple(told.pieces) or ticked:
                self._find(name, f"drops {_shown(pieces)}, not {_shown(told.pieces)}; runs {len(ticked)}")
            return
        like = now.resting()._replace(watermark_us=row.watermark_us, skipped=row.skipped)
        if like != row.resting()._replace(id=row.id or now.id):
            self._find(name, f"is {now}, not {row}")
            return
        fired = row.fires and row.id in due and due[row.id] == row.fire_at_us
        if not (fired or (told.resumed and row.fires) or told.named_us is not None):
            if (now.watermark_us, now.skipped) != (row.watermark_us, row.skipped) or ticked:
                self._find(name, f"moves without a reason: {now}, not {row}; runs {len(ticked)}")
            if tuple(pieces) != tuple(told.pieces):
                self._find(name, f"drops {_shown(pieces)}, not {_shown(told.pieces)}")
        else:
            self._settled(row, now, ticked, pieces[len(told.pieces) :], busy, told)
            if tuple(pieces[: len(told.pieces)]) != tuple(told.pieces):
                self._find(name, f"drops first {_shown(pieces)}, not {_shown(told.pieces)}")
        self._check_next(now)

    def _settled(
        self, row: Seen, now: Seen, runs: tuple[Run, ...], pieces: Sequence[Piece], busy: range, told: Expected
    ) -> None:
        stopped = ""
        if told.named_us is not None:
            stopped = "paused" if row.paused else "" if row.definition.enabled else "disabled"
        it = Settling(
            row, now, self._now_us, runs, tuple(pieces), busy, told.resumed and row.fires, told.named_us, stopped
        )
        for what in judge(it, self.ran):
            self._find(row.definition.name, what)
        self.fires += len(runs)
        if now.watermark_us < row.watermark_us:
            self._find(row.definition.name, "goes backwards")

    def _check_next(self, now: Seen) -> None:
        """What comes next is the first tick after the account, and one moment for it, within its jitter."""
        name, told, ticks = now.definition.name, now.definition, now.ticks
        tick_us = ticks.after(now.watermark_us) if now.fires else None
        if now.tick_us != tick_us:
            self._find(name, f"waits for {at(now.tick_us)}, not {at(tick_us)}, accounted up to {at(now.watermark_us)}")
            return
        if tick_us is None or now.fire_at_us is None:
            if now.fire_at_us is not None or tick_us is not None:
                self._find(name, f"fires {at(now.fire_at_us)} for its tick {at(tick_us)}")
            return
        gap_us = (ticks.after(tick_us) or tick_us) - tick_us
        held_us = now.fire_at_us - tick_us
        if not 0 <= held_us < max(min(told.jitter_us, gap_us), 1):
            self._find(
                name, f"holds {at(tick_us)} back by {held_us} us, its jitter is {told.jitter_us}, {gap_us} apart"
            )
        if (
            told.jitter_us
            and self._moments.setdefault((f"{name} {told.jitter_us} {gap_us}", tick_us), held_us) != held_us
        ):
            self._find(name, f"holds {at(tick_us)} back by {held_us} us, and before by another span")

    def _check_runs(self, told: Expected, row: Seen | None, runs: list[Run]) -> None:
        by_hand = [run.scheduled_at_us for run in runs if run.tick_us is None]
        if by_hand != told.by_hand:
            self._find(runs[0].cron if runs else "", f"runs by hand for {by_hand}, asked for {told.by_hand}")
        for run in runs:
            if row is None:
                self._find(run.cron, "has a run though it is gone")
                continue
            what = row.definition
            lane = None if what.overlap == "allow" else LANE + run.cron
            if (run.path, run.n, run.lane) != (what.path, what.n, lane):
                self._find(run.cron, f"runs {run}, by another definition than {what}")
            if run.tick_us is not None:
                named = f"{run.cron}@{to_datetime(run.tick_us).isoformat().replace('+00:00', 'Z')}"
                if (run.scheduled_at_us, run.occurrence) != (run.tick_us, named):
                    self._find(run.cron, f"the run of {at(run.tick_us)} is told {run}")
                if run.tick_us > self._now_us:
                    self._find(run.cron, f"the run of {at(run.tick_us)} is early")
                if (run.cron, run.tick_us) in self.ran:
                    self._find(run.cron, f"runs {at(run.tick_us)} twice")

    def _check_forgotten(self, name: str, own_seq: int) -> None:
        assert self._file is not None
        self.forgotten[name].append(self._asked_us)
        (left,) = self._file.execute(_LEFT, (name, self._last_seq, own_seq)).fetchone()
        if left:
            self._find(name, f"{left} occurrences of a definition that does not hold any more wait to run")

    def _new_pieces(self, name: str) -> list[Piece]:
        """Return what was recorded as dropped since the last look, oldest first."""
        assert self._file is not None
        found = []
        known, row = self._skips[name], self.by_name().get(name)
        for number, *values in self._file.execute(_SKIPS, (name,)):
            reason, first_us, last_us, ticks = values
            before = known.get((number, first_us))  # numbers of what was pruned are given out again
            if before == tuple(values):
                continue
            known[number, first_us] = tuple(values)
            if before is not None:  # it was lengthened
                if before[0] != reason or row is None:
                    self._find(name, f"a record of dropped ticks was changed from {before} to {values}")
                    continue
                ticks -= before[3]
                first_us = row.ticks.after(before[2]) or 0
            found.append(Piece(reason, first_us, last_us, ticks))
            self.dropped[reason] += ticks
        return sorted(found, key=lambda one: one.first_us)

    # ------------------------------------------------------------ what was asked

    def _after(self, before: dict[str, Seen], ops: Iterable[Op]) -> dict[str, Expected]:
        """Return how the crons that are named should stand after what was asked."""
        expected: dict[str, Expected] = {}

        def of(name: str) -> Expected:
            return expected.setdefault(name, Expected(before.get(name)))

        for op in ops:
            self._asked_us = self._now_us if op.at_us is None else op.at_us
            if op.do == "stage":
                for name, definition in op.value.items():
                    self._put(of(name), definition, "manifest")
                for name, row in before.items():
                    if row.origin == "manifest" and name not in op.value:
                        self._drop(of(name))
            else:
                one = of(op.name)
                one.own_seq = op.own_seq
                self._ask(one, op)
        return expected

    def _ask(self, one: Expected, op: Op) -> None:
        row = one.row
        match op.do:
            case "put":
                self._put(one, op.value, "runtime")
            case "change" | "anew" if row is not None:
                self._change(one, row, op.value, anew=op.do == "anew")
            case "delete" if row is not None:
                self._drop(one)
            case "pause" if row is not None:
                one.forgets = one.forgets or not row.paused
                one.row = row._replace(paused=True)
            case "resume" if row is not None and (row.paused or row.watermark_us > self._asked_us):
                if row.watermark_us > self._asked_us:  # the clock was set back: it counts from now
                    self.changed.add(row.definition.name)
                    row = row._replace(
                        watermark_us=self._asked_us, anchor_us=min(row.anchor_us, self._asked_us),
                        tick_us=None, fire_at_us=None,
                    )  # fmt: skip
                one.row, one.resumed = row._replace(paused=False), True
            case "run" if row is not None:
                one.by_hand.append(op.value if op.value is not None else self._now_us)
            case "dispatch" if row is not None:
                at_us = op.value if op.value is not None else self._now_us
                tick_us = row.ticks.before(at_us + 1)
                if tick_us is not None and tick_us > row.watermark_us:
                    one.named_us = tick_us

    def _put(self, one: Expected, definition: Definition, origin: str) -> None:
        row, now_us = one.row, self._asked_us
        if row is None:
            upto_us = now_us - 1 if definition.when.every_us else now_us
            one.row = Seen(0, origin, definition, now_us, upto_us, 0, False, None, None, None)
        elif row.definition != definition:
            self._change(one, row, definition, anew=False)

    def _change(self, one: Expected, row: Seen, definition: Definition, *, anew: bool) -> None:
        was, now_us = row.definition, self._asked_us
        if was.ticks_alike != definition.ticks_alike or (was.path, was.n) != (definition.path, definition.n):
            one.forgets = True
        if anew or was.ticks_alike != definition.ticks_alike:
            self._end(one, row)
            self.changed.add(was.name)
            anchor_us = row.anchor_us if was.when == definition.when and not anew else now_us
            row = row._replace(anchor_us=anchor_us, watermark_us=now_us, tick_us=None, fire_at_us=None)
        one.row = row._replace(definition=definition)
        if was.jitter_us != definition.jitter_us:
            one.row = one.row.resting()

    def _drop(self, one: Expected) -> None:
        if one.row is not None:
            self._end(one, one.row)
            self.changed.add(one.row.definition.name)
            one.row, one.forgets = None, True

    def _end(self, one: Expected, row: Seen) -> None:
        """A definition ends: its ticks that are due can't run any more."""
        told = row.definition
        if not told.external:
            reason = "disabled" if not told.enabled else "paused" if row.paused else "stale_manifest"
            one.pieces.extend(piece(row.ticks, reason, row.watermark_us, self._asked_us))

    # ------------------------------------------------------------ at rest, and at the end

    def unfinished(self) -> int:
        """Return how many runs have not ended."""
        assert self._file is not None
        number: int = self._file.execute(_UNFINISHED).fetchone()[0]
        return number

    def end(self, *, pruned: bool) -> Iterator[tuple[str, str]]:
        """Yield what is wrong at the end, when nothing is left to happen; `pruned`: what is old is not there."""
        if left := self.unfinished():
            yield "app", f"{left} runs never ended"
        yield from self._check_effects()
        if not pruned:
            yield from self.close_books()

    def _check_effects(self) -> Iterator[tuple[str, str]]:
        """What a mutation did is there once for each occurrence that succeeded, and not for any other."""
        assert self._file is not None
        for name, state, cause, kind, ended_us, effects in self._file.execute(_ENDED):
            if kind == "mutation" and effects != (state == "success"):
                yield name, f"a run that is {state} left {effects} effects"
            if state == "canceled" and (
                cause not in ("stale_manifest", "paused", "disabled") or ended_us not in self.forgotten[name]
            ):
                yield name, f"a run was canceled at {at(ended_us)} for {cause}"
        for (occurrence,) in self._file.execute(
            "SELECT occurrence FROM effects GROUP BY occurrence HAVING count(*) > 1"
        ):
            yield occurrence, "left more than one effect"

    def close_books(self) -> Iterator[tuple[str, str]]:
        """Yield the crons of one definition of whose ticks, up to the account, some are not in the file just once."""
        assert self._file is not None
        for row in self.rows.values():
            name = row.definition.name
            (created_us,) = self._file.execute(
                "SELECT created_at_us FROM _scheduler_crons WHERE id = ?", (row.id,)
            ).fetchone()
            if name in self.changed:
                continue
            sql = "SELECT tick_us FROM _scheduler_jobs WHERE cron = ? AND cron IS NOT NULL AND tick_us IS NOT NULL"
            ran = sorted(tick_us for (tick_us,) in self._file.execute(sql, (name,)))
            sql = (
                "SELECT first_tick_us, last_tick_us, ticks FROM _scheduler_skips WHERE cron = ? ORDER BY first_tick_us"
            )
            dropped = self._file.execute(sql, (name,)).fetchall()
            begin_us = created_us - 1 if row.definition.when.every_us else created_us
            number = row.ticks.count(begin_us, row.watermark_us)
            if number != len(ran) + sum(ticks for *_, ticks in dropped):
                yield name, f"of {number} ticks {len(ran)} have a run, and {dropped} were dropped"
            for first_us, last_us, _ in dropped:
                if bisect_right(ran, last_us) != bisect_left(ran, first_us):
                    yield name, f"ran, and did not run, between {at(first_us)} and {at(last_us)}"
            if any(later[0] <= earlier[1] for earlier, later in pairwise(dropped)):
                yield name, f"dropped twice: {dropped}"

    def at_rest(self, now_us: int) -> Iterator[tuple[str, str]]:
        """Yield the crons that should have fired by now."""
        for row in self.rows.values():
            if row.trouble is not None:
                yield row.definition.name, f"is in trouble: {row.trouble}"
            if row.fires and row.fire_at_us is not None and row.fire_at_us < now_us:
                yield row.definition.name, f"was to fire {at(row.fire_at_us)}, and has not by {at(now_us)}"


def _shown(pieces: Iterable[Piece]) -> str:
    return f"[{', '.join(map(str, pieces))}]"


_read: Final = lru_cache(maxsize=4_096)(read_definition)


def _seen(values: tuple[Any, ...]) -> Seen:
    number, name, origin, spec, anchor_us, watermark_us, skipped, paused_us, tick_us, fire_at_us, trouble = values
    return Seen(
        number, origin, _read(name, spec), anchor_us, watermark_us, skipped, paused_us is not None, tick_us,
        fire_at_us, trouble,
    )  # fmt: skip


def _run(values: tuple[Any, ...]) -> Run:
    seq, nonce, cron, tick_us, scheduled_at_us, fire_at_us, lane, occurrence, note, path, args = values
    told: Any = codec.decode(note) if note is not None else [0]
    given: Any = codec.decode(args)
    window = (told[1], told[2]) if len(told) > 1 else None
    job_id = format_id(seq, nonce)
    return Run(
        seq, job_id, cron, tick_us, scheduled_at_us, fire_at_us, lane, occurrence or job_id, told[0], window, path,
        given["n"],
    )  # fmt: skip
