"""Does it keep time under a steady load, and does it stay as it was?

An open loop schedules durable jobs at a fixed rate, half of them due now and half within a second; each job is a
mutation that writes a row.  So every job is two durable commits, at times of its own.  Lateness counts from the moment
the job was intended to run to the moment its body runs.  Beside it: how late a bare timer of the same loop is, in the
same seconds, and on the loop at rest before.  In the end every acknowledged job must have run, once.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from array import array
from typing import TYPE_CHECKING, Any, Final

from benchmarks.openloop import Tasks, Watch, arrive, options, quantiles, run, size_mib, time_bare
from runtime import App, MutationCtx, Namespace, QueryCtx

if TYPE_CHECKING:
    import argparse

    from benchmarks.measure import Setup

_RATE: Final = 500.0
_REST_S: Final = 2.0  # of the bare loop before the load
_AHEAD_S: Final = 1.0
_DRAIN_S: Final = 60.0
_SCHEMA: Final = "CREATE TABLE done (n INTEGER NOT NULL, padding TEXT NOT NULL) STRICT"

load = Namespace("load")
started_ns = array("q")  # by the number of the job: when its body ran


@load.mutation
async def work(ctx: MutationCtx, *, n: int, name: str) -> None:
    """Write one row."""
    started_ns[n] = time.time_ns()
    await ctx.db.execute("INSERT INTO done VALUES (?, ?)", (n, name))


@load.query
async def outcome(ctx: QueryCtx) -> list[int]:
    """Return how many rows there are, how many jobs wrote them, and how many jobs did not succeed."""
    rows, jobs = await ctx.db.fetch_value("SELECT count(*) FROM done"), 0
    jobs = await ctx.db.fetch_value("SELECT count(DISTINCT n) FROM done")
    return [rows, jobs, await ctx.db.fetch_value("SELECT count(*) FROM _scheduled_functions WHERE state <> 'success'")]


async def _measure(setup: Setup, chosen: argparse.Namespace) -> dict[str, Any]:
    total = max(round(chosen.rate * chosen.seconds), 1)
    started_ns.extend(bytes(8 * total))
    intended_ns, acked_ns = array("q", bytes(8 * total)), array("q", bytes(8 * total))
    sent_ns, bare_ms = array("q", bytes(8 * total)), array("d")
    await _for(min(_REST_S, chosen.seconds), time_bare(bare_ms))
    chance, errors, tasks = random.Random(1), dict[str, int](), Tasks()
    app: App[Any] = App(setup.folder / "load.db", namespaces=[load], synchronous=chosen.synchronous)
    app.schema(_SCHEMA)
    watch = Watch(setup.folder / "load.db", every_s=min(1.0, chosen.seconds / 20))

    async def schedule(n: int, at_ns: int, ahead_s: float) -> None:
        sent_ns[n], intended_ns[n] = at_ns, at_ns + round(ahead_s * 1e9)
        call = work.bind(n=n, name="customer-000042")
        try:
            await (app.scheduler.run_at(intended_ns[n] / 1e9, call) if ahead_s else app.scheduler.run_now(call))
        except Exception as error:
            errors[type(error).__name__] = errors.get(type(error).__name__, 0) + 1
        else:
            acked_ns[n] = time.time_ns()

    def act(n: int, at_ns: int) -> None:
        tasks.start(schedule(n, at_ns, chance.choice((0.0, chance.uniform(0.001, _AHEAD_S)))))

    async with app:
        watching = asyncio.ensure_future(watch.run())
        began = time.perf_counter()
        await arrive(chosen.rate, chosen.seconds, act)
        await tasks.finish()
        took = time.perf_counter() - began
        watching.cancel()
        acked = sum(map(bool, acked_ns))
        rows, jobs, unfinished = await _drained(app, acked)
    late_ms = [(started_ns[n] - intended_ns[n]) / 1e6 for n in range(total) if started_ns[n]]
    answered_ms = [(acked_ns[n] - sent_ns[n]) / 1e6 for n in range(total) if acked_ns[n]]
    return {
        "jobs": total, "per_second": total / took, "acked": acked, "errors": errors, "rows": rows, "ran": jobs,
        "unfinished": unfinished, "late_ms": quantiles(late_ms), "answered_ms": quantiles(answered_ms),
        "bare_ms": quantiles(bare_ms), "timers_ms": quantiles(watch.timers_ms), "early": min(late_ms, default=0) < 0,
        "rss": [watch.rss[0], watch.rss[len(watch.rss) // 2], watch.rss[-1]], "rss_max": max(watch.rss),
        "slope": watch.slope_mib_per_minute(), "wal_max": max(watch.wal), "wal_end": watch.wal[-1],
        "file": size_mib(setup.folder / "load.db"),
    }  # fmt: skip


async def _for(seconds: float, work_: Any) -> None:
    task = asyncio.ensure_future(work_)
    await asyncio.sleep(seconds)
    task.cancel()


async def _drained(app: App[Any], acked: int) -> list[int]:
    deadline = time.monotonic() + _DRAIN_S
    while True:
        found = await app.call(outcome)
        if found[1] >= acked or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.1)


def _lines(found: dict[str, Any], chosen: argparse.Namespace) -> tuple[list[tuple[str, object, str, str]], list[str]]:
    late, timers, bare = found["late_ms"], found["timers_ms"], found["bare_ms"]
    goals = {"p50": "", "p99": "goal 100", "p999": "goal 1,000", "max": ""}
    rows: list[tuple[str, object, str, str]] = [
        ("jobs scheduled and run", found["jobs"], "", f"{found['per_second']:.0f}/s asked for {chosen.rate:g}/s"),
        ("errors", sum(found["errors"].values()), "", str(found["errors"] or "")),
    ]
    for which, goal in goals.items():
        ratio = f"{late[which] / timers[which]:.2f} of a bare call_at in the same loop, " if timers[which] > 0 else ""
        ratio += f"{late[which] / bare[which]:.2f} of one at rest" if bare[which] > 0 else ""
        rows.append((f"lateness {which}", late[which], "ms", f"{ratio}  {goal}"))
    rows += [(f"answered after, {which}", found["answered_ms"][which], "ms", "") for which in ("p50", "p99", "p999")]
    per_100k = found["slope"] / 60 / chosen.rate * 100_000
    rows += [
        ("loop lag p99", timers["p99"], "ms", f"{bare['p99']:.2f} at rest  goal 20"),
        ("memory: start, middle, end", " ".join(f"{mib:.1f}" for mib in found["rss"]), "MiB", ""),
        ("memory: most", found["rss_max"], "MiB", f"{found['rss_max'] / found['rss'][0]:.2f} of the start"),
        ("memory: slope after the warm-up", found["slope"], "MiB/min", f"{per_100k:.3f} MiB per 100,000 jobs  goal 1"),
        ("log: most, end", f"{found['wal_max']:.1f} {found['wal_end']:.1f}", "MiB", "goal 16"),
        ("file after the stop", found["file"], "MiB", f"{found['file'] * 1_048_576 / found['jobs']:.0f} bytes a job"),
    ]  # fmt: skip
    wrong = []
    if found["ran"] < found["acked"]:
        wrong.append(f"LOST: {found['acked'] - found['ran']} acknowledged jobs did not run")
    if found["rows"] != found["ran"]:
        wrong.append(f"DOUBLED: {found['rows'] - found['ran']} rows too many")
    if found["unfinished"]:
        wrong.append(f"{found['unfinished']} jobs did not succeed")
    if found["early"]:
        wrong.append("EARLY: a job ran before its time")
    return rows, wrong


def main() -> int:
    """Measure, and print a table."""
    given = options(__doc__ or "", seconds=60)
    given.add_argument("--rate", type=float, default=_RATE, help=f"jobs a second ({_RATE:g})")
    return run("benchmarks.load", given.parse_args(), _measure, _lines)


if __name__ == "__main__":
    sys.exit(main())
