"""What may become of the ticks of a cron, as the rules are written: the judge of everything that a turn did to one.

Nothing here asks the code under test, but for one hash: which moment jitter chooses.  That it keeps within its bounds,
and to one moment for a tick, is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from actor_scheduler import codec
from actor_scheduler.crons import firing
from actor_scheduler.crons.spec import CronSpec
from tests.proof.ticks import Ticks, When, at

SECOND_US: Final = 1_000_000
LATE_US: Final = 60 * SECOND_US  # a tick that is later than that was missed


class Definition(NamedTuple):
    """A cron as the simulated app defines it."""

    name: str
    when: When
    path: str
    kind: str
    n: int = 0  # its argument
    missed: str = "latest"
    max_ticks: int = 100
    max_age_us: int | None = 48 * 3_600 * SECOND_US
    overlap: str = "skip"
    jitter_us: int = 0
    external: bool = False
    enabled: bool = True
    text: str = ""

    @property
    def ticks_alike(self) -> tuple[Any, ...]:
        """What decides on when it ticks, and by which clock."""
        return self.when, self.external, self.enabled


def read_definition(name: str, data: bytes) -> Definition:
    """Return what is kept of a definition."""
    spec = CronSpec.decode(name, data)
    plain, args = spec.schedule.to_plain(), codec.decode(spec.args)
    when = When(plain["every_us"]) if "every_us" in plain else When(0, plain["cron"], plain["tz"])
    assert isinstance(args, dict)
    return Definition(
        name, when, spec.path, spec.kind, args["n"], spec.rule.missed, spec.rule.max_ticks, spec.rule.max_age_us,
        spec.rule.overlap, spec.jitter_us, spec.clock == "external", spec.enabled, spec.description,
    )  # fmt: skip


class Seen(NamedTuple):
    """A cron as it stands in the file."""

    id: int
    origin: str
    definition: Definition
    anchor_us: int
    watermark_us: int
    skipped: int
    paused: bool
    tick_us: int | None
    fire_at_us: int | None
    trouble: str | None

    @property
    def ticks(self) -> Ticks:
        """Its ticks."""
        return self.definition.when.ticks(self.anchor_us)

    @property
    def fires(self) -> bool:
        """Whether it fires by itself."""
        return self.definition.enabled and not self.definition.external and not self.paused

    def resting(self) -> Seen:
        """Return the same without a next tick."""
        return self._replace(tick_us=None, fire_at_us=None)


class Piece(NamedTuple):
    """Ticks that did not run, from the first one to the last one."""

    reason: str
    first_us: int
    last_us: int
    ticks: int

    def __str__(self) -> str:
        """Show it for people."""
        return f"{self.ticks} {self.reason} {at(self.first_us)} to {at(self.last_us)}"


class Run(NamedTuple):
    """A job of a cron, as it was inserted."""

    seq: int
    id: str
    cron: str
    tick_us: int | None
    scheduled_at_us: int
    fire_at_us: int
    lane: str | None
    occurrence: str
    skipped: int
    window: tuple[int, int] | None
    path: str
    n: int


class Settling(NamedTuple):
    """A cron's due ticks were brought to account: how it stood before and after, and what came of it."""

    before: Seen
    after: Seen
    now_us: int
    runs: tuple[Run, ...]
    pieces: tuple[Piece, ...]
    busy: range  # how many runs had not ended: exact, or a few possibilities
    paused: bool = False  # it was resumed now
    named_us: int | None = None  # an outside clock named this tick
    stopped: str = ""  # an outside clock's cron that is paused or disabled: the reason


class Verdict(NamedTuple):
    """What should become of the due ticks."""

    runs: tuple[int, ...]
    pieces: tuple[Piece, ...]
    window: tuple[int, int] | None
    skipped: int


def piece(ticks: Ticks, reason: str, after_us: int, upto_us: int) -> tuple[Piece, ...]:
    """Return the ticks in (after, upto] as a piece; nothing when there is none."""
    number = ticks.count(after_us, upto_us)
    if not number:
        return ()
    first_us, last_us = ticks.after(after_us), ticks.before(upto_us + 1)
    assert first_us is not None
    assert last_us is not None
    return (Piece(reason, first_us, last_us, number),)


def verdict(was: Seen, newest_us: int, late_us: int, busy: int, *, paused: bool) -> Verdict:
    """Return what should become of the ticks in (watermark, newest], when the newest is so late."""
    told, ticks, after_us = was.definition, was.ticks, was.watermark_us
    missed = late_us > LATE_US
    policy = "paused" if paused else "policy"
    if told.overlap == "skip" and busy:
        dropped = piece(ticks, "overlap", after_us, newest_us)
        return Verdict((), dropped, None, was.skipped + sum(one.ticks for one in dropped))
    room = told.max_ticks if told.missed == "all" else 1
    if told.overlap == "queue":
        room = min(room, told.max_ticks - busy)
    spared_us = newest_us if missed else newest_us - 1  # a newest tick that is only late is not refused
    if told.missed == "latest":
        refused_us, reason = newest_us - 1, policy
    elif told.missed == "skip":
        refused_us, reason = spared_us, policy
    elif told.max_age_us is None:
        refused_us, reason = after_us, "age"
    else:
        refused_us, reason = min(newest_us + late_us - told.max_age_us - 1, spared_us), "age"
    refused_us = max(refused_us, after_us)
    runs: list[int] = []
    tick_us: int | None = newest_us
    while tick_us is not None and tick_us > refused_us and len(runs) < room:
        runs.append(tick_us)
        tick_us = ticks.before(tick_us)
    runs.reverse()
    dropped = piece(ticks, reason, after_us, refused_us)
    dropped += piece(ticks, "cap", refused_us, runs[0] - 1 if runs else newest_us)
    left = was.skipped + sum(one.ticks for one in dropped)
    replays = told.missed == "all" and bool(runs) and (missed or len(runs) > 1)
    return Verdict(tuple(runs), dropped, (runs[0], runs[-1]) if replays else None, 0 if runs else left)


def jitter_of(told: Definition, tick_us: int, ticks: Ticks) -> int:
    """Return by how much a tick is held back."""
    return firing.jitter_us(told.name, tick_us, told.jitter_us, ticks.after(tick_us)) if told.jitter_us else 0


def newest_due(was: Seen, now_us: int) -> tuple[int, int] | None:
    """Return the newest tick whose jitter is over, and how late it is."""
    ticks = was.ticks
    tick_us = ticks.before(now_us + 1)
    while tick_us is not None and (fires_us := tick_us + jitter_of(was.definition, tick_us, ticks)) > now_us:
        tick_us = ticks.before(tick_us)
    return None if tick_us is None else (tick_us, now_us - fires_us)


def judge(it: Settling, taken: set[tuple[str, int]]) -> Iterator[str]:
    """Yield what is wrong with a settling; `taken` are the ticks that had a run before."""
    was, told = it.before, it.before.definition
    if it.named_us is not None:
        due: tuple[int, int] | None = (it.named_us, max(it.now_us - it.named_us, 0))
    else:
        due = newest_due(was, it.now_us)
    if due is None or due[0] <= was.watermark_us:
        allowed = [Verdict((), (), None, was.skipped)]
        newest_us = was.watermark_us
    elif it.stopped:
        newest_us = due[0]
        dropped = piece(was.ticks, it.stopped, was.watermark_us, newest_us)
        allowed = [Verdict((), dropped, None, was.skipped + sum(one.ticks for one in dropped))]
    else:
        newest_us = due[0]
        allowed = [verdict(was, *due, busy, paused=it.paused) for busy in it.busy]
    if it.after.watermark_us != newest_us:
        yield f"is accounted for up to {at(it.after.watermark_us)}, not to {at(newest_us)}, at {at(it.now_us)}"
        return
    complaints = [list(_compare(it, told, one, taken)) for one in allowed]
    yield from min(complaints, key=len)


def _compare(it: Settling, told: Definition, due: Verdict, taken: set[tuple[str, int]]) -> Iterator[str]:
    expected = [tick_us for tick_us in due.runs if (told.name, tick_us) not in taken]
    if [run.tick_us for run in it.runs] != expected:
        shown = ", ".join(at(run.tick_us) for run in it.runs)
        yield f"runs [{shown}], not [{', '.join(map(at, expected))}] of {due}, busy {it.busy}"
    if it.pieces != due.pieces:
        yield f"drops [{', '.join(map(str, it.pieces))}], not [{', '.join(map(str, due.pieces))}], busy {it.busy}"
    if it.after.skipped != due.skipped:
        yield f"keeps {it.after.skipped} untold ticks, not {due.skipped}"
    untold = it.before.skipped + sum(one.ticks for one in due.pieces)
    for run in it.runs:
        first = bool(due.runs) and run.tick_us == due.runs[0]
        if run.skipped != (untold if first else 0):
            yield f"run {at(run.tick_us)} is told of {run.skipped} dropped ticks, not {untold if first else 0}"
        if run.window != due.window:
            yield f"run {at(run.tick_us)} has the window {run.window}, not {due.window}"
