"""What happens at ten times what it can do, and how soon is it over?

The work is live mutations of a millisecond or two each, so that the writer is what there is too little of.  First their
capacity is measured: how many a second a crowd of callers gets done.  Then an open loop asks for ten times that.  What
cannot be taken must be refused with an error that says so, memory must stay bounded, what was acknowledged must be
there, and once the storm is over a job that is scheduled now must soon run now again: within 100 ms, ten times running.
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from benchmarks.openloop import Tasks, Watch, arrive, options, quantiles, run
from runtime import App, MutationCtx, Namespace, QueryCtx

if TYPE_CHECKING:
    import argparse

    from benchmarks.measure import Setup

_CALLERS: Final = 100  # of the crowd that the capacity is measured with
_CAPACITY_S: Final = 2.0
_STEPS: Final = 5_000  # of the SQL that keeps the writer busy: a millisecond or two
_PROBE_S: Final = 0.05
_CALM_MS: Final = 100.0
_CALM_PROBES: Final = 10  # in a row
_AFTER_S: Final = 180.0  # given up
_SCHEMA: Final = "CREATE TABLE done (n INTEGER NOT NULL) STRICT"
_BUSY: Final = (
    "SELECT count(*) FROM (WITH RECURSIVE steps(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM steps WHERE i < ?)"
    " SELECT i FROM steps)"
)

storm = Namespace("storm")
probed_ns: dict[int, int] = {}  # by the number of the probe: when its body ran


@storm.mutation
async def work(ctx: MutationCtx, *, n: int, steps: int) -> None:
    """Keep the writer busy for a while, and write one row."""
    await ctx.db.fetch_value(_BUSY, (steps,))
    await ctx.db.execute("INSERT INTO done VALUES (?)", (n,))


@storm.mutation
async def probe(ctx: MutationCtx, *, n: int) -> None:  # noqa: ARG001 - every function has one
    """Note when this ran."""
    probed_ns[n] = time.time_ns()


@storm.query
async def written(ctx: QueryCtx) -> list[int]:
    """Return the number of every row."""
    return [row["n"] for row in await ctx.db.fetch_all("SELECT n FROM done")]


class Probes:
    """Jobs scheduled for now, one after the other, and how late each was."""

    def __init__(self, app: App[Any], refused: Counter[str]) -> None:
        self._app = app
        self._refused = refused
        self._calm = asyncio.Event()
        self._in_a_row = 0
        self.late_ms: list[float] = []
        self.calm_at = 0.0

    async def run(self) -> None:
        """Probe until canceled. One that is refused, or that is not answered in time, is no calm."""
        at = 0
        while True:
            began_ns, at = time.time_ns(), at + 1
            try:
                await self._app.scheduler.wait(await self._app.scheduler.run_now(probe.bind(n=at)))
            except Exception as error:
                self._refused[f"probe: {type(error).__name__}"] += 1
                self._in_a_row = 0
            else:
                late_ms = (probed_ns.pop(at) - began_ns) / 1e6
                self.late_ms.append(late_ms)
                self._in_a_row = self._in_a_row + 1 if late_ms < _CALM_MS else 0
            if self._in_a_row == 1:
                self.calm_at = began_ns / 1e9
            if self._in_a_row >= _CALM_PROBES:
                self._calm.set()
            await asyncio.sleep(_PROBE_S)

    async def calm(self) -> float:
        """Wait for calm, from now on; return when it began."""
        self._in_a_row = 0
        self._calm.clear()
        await asyncio.wait_for(self._calm.wait(), _AFTER_S)
        return self.calm_at


async def _capacity(app: App[Any], steps: int, seconds: float) -> tuple[float, int]:
    """Return how many calls a second a crowd gets done, and the first number that was not used."""
    numbers = iter(range(1 << 30))
    ends = time.perf_counter() + seconds

    async def caller() -> int:
        calls = 0
        while time.perf_counter() < ends:
            await app.call(work, n=next(numbers), steps=steps)
            calls += 1
        return calls

    began = time.perf_counter()
    calls = sum(await asyncio.gather(*(caller() for _ in range(_CALLERS))))
    return calls / (time.perf_counter() - began), next(numbers)


async def _measure(setup: Setup, chosen: argparse.Namespace) -> dict[str, Any]:
    app: App[Any] = App(setup.folder / "overload.db", namespaces=[storm], synchronous=chosen.synchronous)
    app.schema(_SCHEMA)
    answers, refused, tasks = Counter[str](), Counter[str](), Tasks()
    async with app:
        capacity, first = await _capacity(app, chosen.steps, min(_CAPACITY_S, chosen.seconds))
        total = round(capacity * chosen.times * chosen.seconds)
        acked, answered_ms = bytearray(first + total), array("d")
        acked[:first] = b"\x01" * first
        watch, probes = Watch(setup.folder / "overload.db", every_s=0.25), Probes(app, refused)
        watching = asyncio.ensure_future(asyncio.wait([asyncio.ensure_future(watch.run())]))

        async def call(n: int, at_ns: int) -> None:
            try:
                await app.call(work, n=n, steps=chosen.steps)
            except Exception as error:
                answers[type(error).__name__] += 1
            else:
                acked[n] = 1
                answers["answered"] += 1
                answered_ms.append((time.time_ns() - at_ns) / 1e6)

        probing = asyncio.ensure_future(probes.run())
        calm_before = await probes.calm()
        before = len(probes.late_ms)
        began = time.time()
        sent = await arrive(capacity * chosen.times, chosen.seconds, lambda n, at: tasks.start(call(first + n, at)))
        ended = time.time()
        calm_at = await probes.calm()
        probing.cancel()
        await tasks.finish()
        watching.cancel()
        rows = await app.call(written)
    counts = Counter(rows)
    return {
        "capacity": capacity, "sent": sent, "seconds": ended - began, "answers": answers, "refused": refused,
        "answered_ms": quantiles(answered_ms), "quiet_ms": quantiles(probes.late_ms[:before]),
        "worst_ms": max(probes.late_ms[before:]), "calm_after": max(calm_at - ended, 0.0),
        "rss": [watch.rss[0], max(watch.rss), watch.rss[-1]], "wal_max": max(watch.wal), "calm_before": calm_before > 0,
        "lost": sum(1 for n, there in enumerate(acked) if there and not counts[n]),
        "doubled": sum(1 for count in counts.values() if count > 1),
        "refused_but_there": sum(1 for n in counts if not acked[n]),
    }  # fmt: skip


def _lines(found: dict[str, Any], _: argparse.Namespace) -> tuple[list[tuple[str, object, str, str]], list[str]]:
    asked = found["sent"] / found["seconds"]
    start, most, end = found["rss"]
    rows: list[tuple[str, object, str, str]] = [
        ("capacity", found["capacity"], "calls/s", f"{_CALLERS} callers, each waiting for its answer"),
        ("asked for", asked, "calls/s", f"{asked / found['capacity']:.1f} of it, for {found['seconds']:.1f} s"),
        *((f"  {name}", count, "calls", "") for name, count in sorted(found["answers"].items())),
        *((f"  {name}", count, "", "") for name, count in sorted(found["refused"].items())),
        ("answered after, p50", found["answered_ms"]["p50"], "ms", "of those that were answered"),
        ("answered after, max", found["answered_ms"]["max"], "ms", ""),
        ("a job for now: late, p50 at rest", found["quiet_ms"]["p50"], "ms", ""),
        ("a job for now: late, the worst", found["worst_ms"], "ms", ""),
        ("within 100 ms again after", found["calm_after"], "s", "goal 60"),
        ("memory: before", start, "MiB", ""),
        ("memory: most", most, "MiB", f"{most - start:.0f} MiB more"),
        ("memory: after", end, "MiB", ""),
        ("log: most", found["wal_max"], "MiB", ""),
    ]  # fmt: skip
    wrong = []
    if found["lost"]:
        wrong.append(f"LOST: {found['lost']} acknowledged calls left no row")
    if found["doubled"]:
        wrong.append(f"DOUBLED: {found['doubled']} calls left more than one row")
    if found["refused_but_there"]:
        wrong.append(f"REFUSED, BUT DONE: {found['refused_but_there']} calls")
    return rows, wrong


def main() -> int:
    """Measure, and print a table."""
    given = options(__doc__ or "", seconds=15)
    given.add_argument("--times", type=float, default=10.0, help="how many times the capacity (10)")
    given.add_argument("--steps", type=int, default=_STEPS, help=f"how much work a call is ({_STEPS})")
    return run("benchmarks.overload", given.parse_args(), _measure, _lines)


if __name__ == "__main__":
    sys.exit(main())
