"""How many times a second can the next tick of a cron be found? Beside croniter's own iteration, in the same run.

Both walk from tick to tick on one object made before: croniter's `get_next(float)` on a reused iterator, its cheapest
way.  The first sides of the table walk; the last ones count a year's ticks and make a cron that nobody made before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from croniter import croniter

from actor_scheduler.crons.fields import fields_of
from actor_scheduler.crons.schedule import Cron
from actor_scheduler.crons.search import ticks_of
from actor_scheduler.times import from_datetime
from benchmarks.measure import Rate, Result, Setup, Stopwatch, alternate, run

EXPRESSIONS: Final = (
    "*/5 * * * *",
    "0 * * * *",
    "0 9 * * *",
    "*/15 9-17 * * MON-FRI",
    "30 2 * * SUN",
    "0 0 1 * *",
)
ZONES: Final = ("UTC", "America/New_York")
_STEPS: Final = 5_000
_GOAL: Final = "ratio 20"
_FROM: Final = datetime(2026, 1, 1, tzinfo=UTC)
_YEAR_US: Final = 365 * 86_400 * 1_000_000


def measure(setup: Setup) -> list[Result]:
    """Measure each expression in each zone, then what is done less often."""
    return setup.run(_measure(setup))


async def _measure(setup: Setup) -> list[Result]:
    count = setup.count(_STEPS)
    results = [
        await _beside(setup, f"next, {expr!r} {tz}", count, _our_walk(expr, tz), _their_walk(expr, tz))
        for tz in ZONES
        for expr in EXPRESSIONS
    ]
    ticks, at_us = Cron("* * * * *", tz="America/New_York").ticks(0), from_datetime(_FROM)
    fresh = itertools.cycle(f"{minute} {hour} * * MON-FRI" for hour in range(24) for minute in range(60))

    def count_year(count: int) -> None:
        for step in range(count):
            ticks.count(at_us + step, at_us + step + _YEAR_US)

    def define(count: int) -> None:
        for _ in range(count):
            fields_of.cache_clear()
            ticks_of.cache_clear()
            Cron(next(fresh), tz="America/New_York").ticks(0).next_us(at_us)

    def define_theirs(count: int) -> None:
        start = _FROM.astimezone(ZoneInfo("America/New_York"))
        for _ in range(count):
            croniter(next(fresh), start).get_next(float)

    results.append(await _beside(setup, "a year of minutes counted", setup.count(2_000), count_year, None))
    results.append(
        await _beside(setup, "define and find the first", setup.count(2_000), define, define_theirs, goal="")
    )
    return results


def _our_walk(expr: str, tz: str) -> Callable[[int], None]:
    ticks = Cron(expr, tz=tz).ticks(0)

    def walk(count: int) -> None:
        at_us = from_datetime(_FROM)
        for _ in range(count):
            at_us = ticks.next_us(at_us) or 0

    return walk


def _their_walk(expr: str, tz: str) -> Callable[[int], None]:
    def walk(count: int) -> None:
        steps = croniter(expr, _FROM.astimezone(ZoneInfo(tz)))
        for _ in range(count):
            steps.get_next(float)

    return walk


async def _beside(
    setup: Setup,
    scenario: str,
    count: int,
    ours: Callable[[int], None],
    theirs: Callable[[int], None] | None,
    goal: str = _GOAL,
) -> Result:
    """Return our rate beside theirs, of which a tenth of the steps says enough; ours alone where there is no other."""

    async def our_round() -> Rate:
        watch = Stopwatch()
        ours(count)
        return watch.rate(count)

    async def their_round() -> Rate:
        if theirs is None:
            return Rate(0.0, 0.0)
        watch = Stopwatch()
        theirs(count // 10)
        return watch.rate(count // 10)

    rates = await alternate(our_round, their_round, setup.rounds)
    if theirs is None:
        return Result(scenario, "/s", [rate.per_second for rate in rates[0]])
    result = Result.of_rates(scenario, "/s", rates, goal)
    result.reference_is = "croniter"
    return result


if __name__ == "__main__":
    run(__doc__ or "", [measure])
