"""How late does a job start on an app at rest, beside a bare `loop.call_at` for the same kind of instant?

200 jobs are spread over five seconds; each notes the wall clock when its handler runs. Between them the same loop runs
as many bare timers, and the ceiling as many jobs, so that all three meet the same machine. A due job includes the
commit of its claim: an action starts only once its claim is durable.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.measure import LOOPS, LoopKind, Result, Setup, run
from benchmarks.sides import STAMP, arguments, ceiling, ours, stamp, started_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

_JOBS = 200
_SPAN_S = 5.0
_LEAD_S = 0.3  # so that all are stored, and the app is at rest, before the first is due


def measure(setup: Setup) -> list[Result]:
    """Measure on each event loop there is."""
    rounds = 1 if setup.quick else max(setup.rounds // 2, 1)
    return [result for loop in LOOPS for result in setup.run(_measure(setup, loop, rounds), loop)]


async def _measure(setup: Setup, loop: LoopKind, rounds: int) -> list[Result]:
    results = {
        which: Result(f"lateness at rest, {loop}, {which}", "ms", [], [], reference_is="call_at", goal=goal)
        for which, goal in (("p50", "under 1.5 ms"), ("p99", ""), ("max", ""))
    }
    against = {
        which: Result(f"lateness at rest, {loop}, {which}, again", "ms", [], [], reference_is="ceiling")
        for which in ("p50", "p99")
    }
    count, span = (_JOBS // 5, _SPAN_S / 5) if setup.quick else (_JOBS, _SPAN_S)
    for _ in range(rounds):
        jobs, timers, raw = await _round(setup, count, span)
        assert min(jobs) >= 0, "a job started before its time"
        for which, result in results.items():
            result.ours.append(_quantile(jobs, which))
            result.reference.append(_quantile(timers, which))
        for which, result in against.items():
            result.ours.append(_quantile(jobs, which))
            result.reference.append(_quantile(raw, which))
    return [*results.values(), *against.values()]


async def _round(setup: Setup, count: int, span: float) -> tuple[list[float], list[float], list[float]]:
    """Return the lateness in ms of our jobs, of bare timers, and of the ceiling's jobs."""
    started_ns.clear()
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    async with ours(setup.folder, synchronous=setup.synchronous) as app:
        with ceiling(setup.folder, synchronous=setup.synchronous) as raw:
            first = time.time() + _LEAD_S
            step = span / count
            due = [first + n * step for n in range(count)]
            await app.scheduler.run_many(stamp.bind(**arguments(n)).at(due[n]) for n in range(count))
            raw_due = [at + step / 3 for at in due]
            jobs = ((round(raw_due[n] * 1_000_000), STAMP, arguments(count + n)) for n in range(count))
            ended = raw.ended(count)
            await raw.schedule_many(jobs)
            timer_due = [at + step * 2 / 3 for at in due]
            to_loop = time.monotonic() - time.time()  # loop.time() itself is cached, and may lag by a millisecond
            for at in timer_due:
                loop.call_at(at + to_loop, _note, timers, at)
            await asyncio.sleep(_LEAD_S + span + 0.1)
            await ended
    ours_late = [started_ns[n] / 1e9 - due[n] for n in range(count)]
    raw_late = [started_ns[count + n] / 1e9 - raw_due[n] for n in range(count)]
    return [[1_000 * late for late in side] for side in (ours_late, timers, raw_late)]  # type: ignore[return-value]


def _note(timers: list[float], at: float) -> None:
    timers.append(time.time() - at)


def _quantile(values: Sequence[float], which: str) -> float:
    if which == "max":
        return max(values)
    return statistics.quantiles(values, n=100, method="inclusive")[49 if which == "p50" else 98]


if __name__ == "__main__":
    run(__doc__ or "", [measure])
