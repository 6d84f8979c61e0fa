"""Ours beside croniter and cronsim where clocks change: every kind of difference has a name, and no other is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim

from actor_scheduler.crons.schedule import Cron
from tests.crons.scan import EPOCH, EXPRESSIONS, Walls, changes, naive, shown_at, walls_of

SLICE = (
    ("America/New_York", 2026), ("Europe/Dublin", 2026), ("Australia/Lord_Howe", 2026), ("Africa/Cairo", 2026),
    ("Africa/Casablanca", 2026), ("Antarctica/Troll", 2026), ("Asia/Pyongyang", 2018),
)  # fmt: skip
SEEN = EXPRESSIONS[2:]  # the others are slow beside theirs, and say no more


class Difference(NamedTuple):
    """One instant at which one engine fires and ours does not, or the other way round."""

    engine: str
    tz: str
    expr: str
    minute: int  # of UTC
    theirs: bool  # they fire, ours does not
    hourly: bool  # by our rule
    place: str  # "again": the wall clock shows a time of a fold again; "after a gap": it has just jumped; "plain"
    by_hours: bool  # the change is one of whole hours


def starred(difference: Difference, at: int) -> bool:
    return difference.expr.split()[at].startswith("*")


KNOWN: dict[str, Callable[[Difference], bool]] = {
    "croniter fires a fixed time twice in a fold": lambda it: (
        it.engine == "croniter" and it.theirs and not it.hourly and it.place == "again"
    ),
    "croniter fires an hourly schedule after a gap for a time in it": lambda it: (
        it.engine == "croniter" and it.theirs and it.hourly and it.place == "after a gap"
    ),
    "croniter takes */2 in a field of days for restricted, so that either field is enough": lambda it: (
        it.engine == "croniter" and it.theirs and "/" in it.expr.split()[2] + it.expr.split()[4]
    ),
    "cronsim follows real time when the minute begins with *, whatever the hour": lambda it: (
        it.engine == "cronsim" and not it.hourly and starred(it, 0)
        and (it.place, it.theirs) in (("again", True), ("after a gap", False))
    ),
    "cronsim takes 0-23/2 for fixed hours": lambda it: (
        it.engine == "cronsim" and it.hourly and not starred(it, 1)
        and (it.place, it.theirs) in (("again", False), ("after a gap", True))
    ),
    "cronsim loses times near a change that is not one of whole hours": lambda it: (
        it.engine == "cronsim" and not it.theirs and not it.by_hours and (starred(it, 0) or starred(it, 1))
    ),
}  # fmt: skip


def places(walls: Walls) -> dict[int, str]:
    """Return where the wall clock was shown again, or has just jumped, by minute of UTC."""
    found, come = {}, walls.before
    for minute, shown in enumerate(walls.shown, start=walls.first):
        if shown != come:
            found[minute] = "again" if shown < come else "after a gap"
        come = max(come, shown + 1)
    return found


def fired(engine: str, expr: str, after: datetime, last: int) -> list[int]:
    """Return the minutes of UTC at which an engine fires, up to the last one."""
    if engine == "croniter":
        moments = iter(croniter(expr, after, ret_type=datetime))
    else:
        moments = iter(CronSim(expr.replace("L0", "0L"), after))  # cronsim writes the last Sunday the other way round
    found: list[int] = []
    for moment in moments:
        minute = (moment.astimezone(UTC) - EPOCH) // timedelta(minutes=1)
        if minute > last:
            return found
        found.append(minute)
    return found


def compared(tz: str, year: int) -> Iterator[Difference]:
    zone = ZoneInfo(tz)
    for change in changes(zone, datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)):
        walls = walls_of(zone, change - 30 * 60, change + 24 * 60)
        last = walls.first + len(walls.shown) - 1
        after = (EPOCH + timedelta(minutes=walls.first - 1)).astimezone(zone)
        where = places(walls)
        by_hours = (shown_at(zone, last) - shown_at(zone, walls.first) - (last - walls.first)) % 60 == 0
        for expr in SEEN:
            ours, at = set(), walls.first * 60_000_000 - 1
            ticks = Cron(expr, tz=tz).ticks(0)
            while (at := ticks.next_us(at)) // 60_000_000 <= last:
                ours.add(at // 60_000_000)
            for engine in ("croniter", "cronsim"):
                theirs = fired(engine, expr, after, last)
                assert theirs == sorted(set(theirs))
                for minute in ours ^ set(theirs):
                    yield Difference(
                        engine,
                        tz,
                        expr,
                        minute,
                        minute in theirs,
                        naive(expr).hourly,
                        where.get(minute, "plain"),
                        by_hours,
                    )


@pytest.fixture(scope="module")
def differences() -> list[Difference]:
    return [one for tz, year in SLICE for one in compared(tz, year)]


def test_every_difference_from_croniter_and_cronsim_has_a_name(differences: list[Difference]) -> None:
    """A difference of a new kind is a fault, of theirs or of ours: find out which, and name it in KNOWN."""
    unknown = [one for one in differences if not any(explains(one) for explains in KNOWN.values())]
    assert unknown == []


def test_every_known_difference_is_there(differences: list[Difference]) -> None:
    """A name that explains nothing any more hides nothing but errors: take it out."""
    counted = Counter(name for one in differences for name, explains in KNOWN.items() if explains(one))
    assert set(counted) == set(KNOWN)
