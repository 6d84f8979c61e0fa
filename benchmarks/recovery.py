"""How soon after a crash is an app with many pending jobs back, and at work?

A process schedules the jobs and dies by SIGKILL, leaving its log behind.  Others open the file, each a process of its
own that dies in the same way once it has run its first job: so every round finds a crashed file.  All jobs are pending
for tomorrow but a few that fell due; then the same with every job overdue.  The reference is a crashed file with no
other job than those few.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from actor_scheduler.testing.clock import VirtualClock
from benchmarks.measure import Result, Setup, run
from benchmarks.openloop import rss_mib
from benchmarks.sides import arguments, bench, noop
from runtime import App, MutationCtx, Namespace

_AHEAD: Final = 86_400.0
_DUE: Final = 100  # jobs that fell due: more than are run before the process dies
_SIZES: Final = (100_000, 1_000_000)

recovery = Namespace("recovery")
_reader_of: dict[str, Any] = {}


@recovery.mutation
async def first(ctx: MutationCtx, *, n: int) -> None:  # noqa: ARG001 - every function has one
    """Say that a job was dispatched; the first one is what counts."""
    _reader_of["told"](n)


def measure(setup: Setup) -> list[Result]:
    """Measure each size, with the jobs pending for tomorrow and with all of them overdue."""
    sizes = (1_000,) if setup.quick else _SIZES if setup.large else _SIZES[:1]
    empty = _rounds(setup, 0, overdue=False)
    results = []
    for size in sizes:
        for overdue in (False, True):
            found = _rounds(setup, size, overdue=overdue)
            name = f"{size:,} {'overdue' if overdue else 'pending'}"
            for what, said, unit, goal in (
                ("ready_ms", "until it is ready", "ms", "1,000 with 100,000"),
                ("first_ms", "until its first job runs", "ms", "1,000 with 100,000"),
                ("rss_mib", "memory that took", "MiB", "bounded by the window"),
            ):
                results.append(Result(f"{name}: {said}", unit, found[what], empty[what], "no backlog", goal))
    return results


def _rounds(setup: Setup, size: int, *, overdue: bool) -> dict[str, list[float]]:
    path = setup.folder / f"recovery-{size}-{overdue}.db"
    _child("fill", path, size, setup.synchronous, overdue=overdue)
    gave: dict[str, list[float]] = {"ready_ms": [], "first_ms": [], "rss_mib": []}
    for at in range(min(setup.rounds, 3)):
        again = path.parent / f"round-{at}"  # each start from what the crash left: one may run everything that is due
        again.mkdir()
        for left in path.parent.glob(f"{path.name}*"):
            shutil.copy(left, again)
        for what, value in json.loads(
            _child("start", again / path.name, size, setup.synchronous, overdue=overdue)
        ).items():
            gave[what].append(value)
        shutil.rmtree(again)
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    return gave


def _child(step: str, path: Path, size: int, synchronous: str, *, overdue: bool) -> str:
    command = [sys.executable, "-m", "benchmarks.recovery", "--child", step, str(path), str(size), synchronous]
    done = subprocess.run([*command, str(overdue)], check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode != -signal.SIGKILL:
        msg = f"a child was to die by SIGKILL, and ended with {done.returncode}"
        raise RuntimeError(msg)
    return done.stdout


# ------------------------------------------------------------ in the child


def _die() -> None:
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


async def _fill(app: App[Any], size: int, *, overdue: bool) -> None:
    """Schedule everything, by a clock that shows the day before yesterday, and die."""
    due_at = time.time() - _AHEAD
    async with app:
        at = due_at if overdue else due_at + 2 * _AHEAD
        await app.scheduler.run_many(noop.bind(**arguments(n)).at(at) for n in range(size))
        await app.scheduler.run_many(first.bind(n=n).at(due_at) for n in range(_DUE))
        _die()


async def _start(app: App[Any]) -> None:
    """Open the file, and die once the first job runs."""
    before, began = rss_mib(), time.perf_counter()
    ran: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def told(_: int) -> None:
        at = time.perf_counter()
        loop.call_soon_threadsafe(lambda: None if ran.done() else ran.set_result(at))

    _reader_of["told"] = told
    async with app:
        ready = time.perf_counter()
        at = await ran
        gave = {"ready_ms": (ready - began) * 1e3, "first_ms": (at - began) * 1e3, "rss_mib": rss_mib() - before}
        print(json.dumps(gave))
        _die()


def _in_child(step: str, path: Path, size: int, synchronous: Any, *, overdue: bool) -> None:
    logging.getLogger("actor_scheduler").setLevel(logging.ERROR)  # it says at each start how the one before died
    clock = VirtualClock(round((time.time() - 2 * _AHEAD) * 1e6)) if step == "fill" else None
    app: App[Any] = App(path, namespaces=[bench, recovery], synchronous=synchronous, clock=clock)
    asyncio.run(_fill(app, size, overdue=overdue) if step == "fill" else _start(app))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _in_child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5], overdue=sys.argv[6] == "True")
    else:
        if "--json" not in sys.argv:
            print(f"python -m benchmarks.recovery {' '.join(sys.argv[1:])}".rstrip(), flush=True)
        run(__doc__ or "", [measure])
