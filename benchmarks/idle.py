"""What does an app cost that has 100,000 jobs pending, and nothing to do?

The loop's thread and the whole process are watched for a few seconds, beside the same seconds of a bare loop without
an app. The one wake-up that is allowed is the watchdog's, once a minute.
"""

from __future__ import annotations

import asyncio
import resource
import time
from typing import NamedTuple

from benchmarks.measure import LOOPS, LoopKind, Result, Setup, run
from benchmarks.sides import arguments, noop, ours

_PENDING = 100_000
_AHEAD = 86_400
_SECONDS = 4.0


class Used(NamedTuple):
    """What a span of rest used: context switches are all threads', each one a wake-up of some thread."""

    switches: float
    cpu_ms: float


def measure(setup: Setup) -> list[Result]:
    """Measure on each event loop there is."""
    return [result for loop in LOOPS for result in setup.run(_measure(setup, loop), loop)]


async def _measure(setup: Setup, loop: LoopKind) -> list[Result]:
    count = setup.count(_PENDING)
    seconds = _SECONDS / 4 if setup.quick else _SECONDS
    bare = await _rest(seconds)
    async with ours(setup.folder, synchronous=setup.synchronous) as app:
        await app.scheduler.run_many(noop.bind(**arguments(n)).after(_AHEAD) for n in range(count))
        await asyncio.sleep(0.2)
        used = await _rest(seconds)
    name = f"idle, {count:,} pending, {loop}"
    return [
        Result(f"{name}, wake-ups", "in all", [used.switches], [bare.switches], "bare loop", "as a bare loop"),
        Result(f"{name}, CPU", "ms/s", [used.cpu_ms / seconds], [bare.cpu_ms / seconds], "bare loop", "as a bare loop"),
    ]


async def _rest(seconds: float) -> Used:
    before, cpu = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    await asyncio.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return Used(after.ru_nvcsw - before.ru_nvcsw, (time.process_time() - cpu) * 1_000)


if __name__ == "__main__":
    run(__doc__ or "", [measure])
