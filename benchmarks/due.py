"""How many due jobs a second run to their durable completion, when many fall due at one instant?

The clock runs from the instant they are due to the commit that holds the last completion.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Rate, Result, Setup, Stopwatch, alternate, run
from benchmarks.sides import INSERT, NOOP, arguments, ceiling, insert, noop, ours

if TYPE_CHECKING:
    from benchmarks.ceiling import Ceiling
    from runtime import App

_COUNT = 6_000


def measure(setup: Setup) -> list[Result]:
    """Measure actions, with the default limit and with a high one, then mutations."""
    return [
        setup.run(_measure(setup, "due action, default slots", noop, NOOP, None, "")),
        setup.run(_measure(setup, "due action, 1000 slots", noop, NOOP, 1_000, "ratio 0.7")),
        setup.run(_measure(setup, "due mutation", insert, INSERT, None, "ratio 0.7, 20,000/s")),
    ]


async def _measure(setup: Setup, scenario: str, function: Any, path: str, slots: int | None, goal: str) -> Result:
    count = setup.count(_COUNT)
    async with ours(setup.folder, synchronous=setup.synchronous, slots=slots) as app:
        with ceiling(setup.folder, synchronous=setup.synchronous) as raw:
            ahead = _Ahead()
            rates = await alternate(
                lambda: _our_round(app, function, count, ahead), lambda: _raw_round(raw, path, count), setup.rounds
            )
        expected = (setup.rounds + 1) * count
        assert await app.scheduler.list(state="success").count() == expected, "not every job succeeded, or not once"
    return Result.of_rates(scenario, "jobs/s", rates, goal)


class _Ahead:
    """How far ahead jobs are scheduled so that all are stored before the first is due: learned from the last time."""

    def __init__(self) -> None:
        self.seconds = 2.0


async def _our_round(app: App[Any], function: Any, count: int, ahead: _Ahead) -> Rate:
    began = time.time()
    due = began + ahead.seconds
    ids = await app.scheduler.run_many(function.bind(**arguments(n)).at(due) for n in range(count))
    took = time.time() - began
    assert took < ahead.seconds, "storing the jobs took longer than expected: the machine is busy, run again"
    ahead.seconds = took * 1.7 + 0.15
    watch = Stopwatch()
    # Jobs of one queue run in order of acceptance, so the last one is the last to end; the count is checked later.
    await asyncio.wait_for(app.scheduler.wait(ids[-1]), 60)
    return watch.rate(count, time.time() - due)


async def _raw_round(raw: Ceiling, path: str, count: int) -> Rate:
    due = time.time() + 0.4 + count / 50_000
    due_us = round(due * 1_000_000)
    ended = raw.ended(count)
    await raw.schedule_many((due_us, path, arguments(n)) for n in range(count))
    assert time.time() < due, "storing the jobs took longer than expected: the machine is busy, run again"
    watch = Stopwatch()
    await asyncio.wait_for(ended, 60)
    return watch.rate(count, time.time() - due)


if __name__ == "__main__":
    run(__doc__ or "", [measure])
