"""How many live mutations a second become durable (`app.call`), by one caller and by many at once?"""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Result, Setup, alternate, run
from benchmarks.sides import INSERT, arguments, ceiling, drive, ours

_CALLS = {1: 400, 100: 10_000, 1000: 20_000}


def measure(setup: Setup) -> list[Result]:
    """Measure each number of callers."""
    return setup.run(_measure(setup))


async def _measure(setup: Setup) -> list[Result]:
    results = []
    for callers, calls in _CALLS.items():
        count = setup.count(calls)
        async with ours(setup.folder, synchronous=setup.synchronous) as app:
            with ceiling(setup.folder, synchronous=setup.synchronous) as raw:

                def our_call(n: int, app: Any = app) -> Any:
                    return app.call(INSERT, arguments(n))

                def raw_call(n: int, raw: Any = raw) -> Any:
                    return raw.mutate(INSERT, arguments(n))

                rates = await alternate(
                    lambda: drive(our_call, callers, count),  # noqa: B023 - called before the next round of the loop
                    lambda: drive(raw_call, callers, count),  # noqa: B023
                    setup.rounds,
                )
        name = f"live mutation, {callers} caller{'s' if callers > 1 else ''}"
        results.append(Result.of_rates(name, "calls/s", rates, "ratio 0.7"))
    return results


if __name__ == "__main__":
    run(__doc__ or "", [measure])
