"""How many jobs a second can be scheduled durably, by one caller, by many at once, and in bulk?"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measure import Rate, Result, Setup, Stopwatch, alternate, run
from benchmarks.sides import NOOP, arguments, ceiling, drive, noop, ours

_CALLS = {1: 400, 100: 10_000, 1000: 20_000}
_MANY = 20_000
_AHEAD = 3600


def measure(setup: Setup) -> list[Result]:
    """Measure each number of callers, then run_many."""
    return setup.run(_measure(setup))


async def _measure(setup: Setup) -> list[Result]:
    results = []
    for callers, calls in _CALLS.items():
        count = setup.count(calls)
        async with ours(setup.folder, synchronous=setup.synchronous) as app:
            with ceiling(setup.folder, synchronous=setup.synchronous) as raw:
                scheduler = app.scheduler

                def our_call(n: int, scheduler: Any = scheduler) -> Any:
                    return scheduler.run_after(_AHEAD, NOOP, arguments(n))

                def raw_call(n: int, raw: Any = raw) -> Any:
                    return raw.schedule(time.time_ns() // 1_000 + _AHEAD * 1_000_000, NOOP, arguments(n))

                rates = await alternate(
                    lambda: drive(our_call, callers, count),  # noqa: B023 - called before the next round of the loop
                    lambda: drive(raw_call, callers, count),  # noqa: B023
                    setup.rounds,
                )
        goal = "ratio 0.7" + (", 25,000/s" if callers == 100 else "")
        name = f"schedule, {callers} caller{'s' if callers > 1 else ''}"
        results.append(Result.of_rates(name, "jobs/s", rates, goal))
    results.append(await _many(setup))
    return results


async def _many(setup: Setup) -> Result:
    count = setup.count(_MANY)
    async with ours(setup.folder, synchronous=setup.synchronous) as app:
        with ceiling(setup.folder, synchronous=setup.synchronous) as raw:

            async def our_round() -> Rate:
                watch = Stopwatch()
                await app.scheduler.run_many(noop.bind(**arguments(n)).after(_AHEAD) for n in range(count))
                return watch.rate(count)

            async def raw_round() -> Rate:
                watch = Stopwatch()
                for first in range(0, count, 1_000):
                    fire_at_us = time.time_ns() // 1_000 + _AHEAD * 1_000_000
                    numbers = range(first, min(first + 1_000, count))
                    await raw.schedule_many((fire_at_us, NOOP, arguments(n)) for n in numbers)
                return watch.rate(count)

            rates = await alternate(our_round, raw_round, setup.rounds)
    return Result.of_rates("schedule, run_many", "jobs/s", rates, "ratio 0.7")


if __name__ == "__main__":
    run(__doc__ or "", [measure])
