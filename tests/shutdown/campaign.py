"""Many stops: series of servers on one file each, every one stopped by signals at a random moment, the file judged."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import statistics
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.crash.campaign import read_out
from tests.crash.checker import Violation, check
from tests.crash.history import Ask, History
from tests.crash.lives import Nursery, clean
from tests.crash.plan import Plan
from tests.crash.workload import Sleeper, Workload
from tests.shutdown.crowd import Crowd

SERVERS: Final = 2  # at once
GRACE_S: Final = 0.3
BOUND_S: Final = 10.0  # an exit later than this is no exit: wide, for a busy machine
_SERIES: Final = 12  # stops of servers on one file
_CLIENTS: Final = 6
_CALLS: Final = 40  # of each client: more than a server lives for
_ANSWERS: Final = 60  # a stop comes after the first to sixtieth answer
_FINISH_S: Final = 20.0
_LONG_US: Final = 60_000_000
SLEEPERS: Final = (
    Sleeper(2_000), Sleeper(30_000), Sleeper(200_000), Sleeper(_LONG_US), Sleeper(_LONG_US, stubborn_us=150_000),
)  # fmt: skip

TERM, INT = signal.SIGTERM, signal.SIGINT


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to be stopped: the signals, where from, and what uvicorn makes of it."""

    name: str
    signals: tuple[signal.Signals, ...]
    status: frozenset[int]  # uvicorn raises SIGTERM again once it has shut down, so that its parent sees it
    at_start: bool = False  # at a moment after the fork, instead of after so many answers
    graceful: bool = True  # the lifespan runs to its end


_TERMINATED: Final = frozenset({-TERM})
KINDS: Final = (
    Kind("S1 SIGTERM", (TERM,), _TERMINATED),
    Kind("S1 SIGINT", (INT,), frozenset({0})),
    Kind("S2 SIGTERM twice", (TERM, TERM), _TERMINATED),
    Kind("S2 SIGINT twice", (INT, INT), frozenset({0}), graceful=False),
    Kind("S4 SIGTERM while starting", (TERM,), _TERMINATED, at_start=True, graceful=False),
)
_WEIGHTS: Final = (6, 1, 2, 1, 2)


@dataclass(frozen=True, slots=True)
class Stop:
    """How and when one server is stopped."""

    kind: Kind
    after: int  # answers
    wait_s: float  # before the second signal; with `at_start`, before the first


@dataclass(slots=True)
class Report:
    """The figures of a campaign, or of a part of it."""

    stops: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    over_s: dict[str, list[float]] = field(default_factory=dict)  # from the signal to the exit, past the grace
    violations: list[tuple[int, Violation]] = field(default_factory=list)  # with the seed of their series
    troubles: list[tuple[str, str]] = field(default_factory=list)  # with the name of the kind of stop
    seconds: float = 0.0

    def add(self, other: Report) -> None:
        """Take in another part."""
        self.stops.update(other.stops)
        self.counts.update(other.counts)
        for name, values in other.over_s.items():
            self.over_s.setdefault(name, []).extend(values)
        self.violations.extend(other.violations)
        self.troubles.extend(other.troubles)

    def text(self) -> str:
        """Return the figures for people."""
        stops = "\n".join(f"  {name:32}{count:6}  {_spread(self.over_s[name])}" for name, count in self.stops.items())
        counts = "\n".join(f"  {name:32}{count:6}" for name, count in sorted(self.counts.items()))
        bad = "\n".join(f"  seed {seed}: {v.rule.name} {v.subject} {v.detail}" for seed, v in self.violations)
        wrong = "\n".join(f"  {kind}: {what}" for kind, what in self.troubles)
        return (
            f"stops{'':35}exit after the signal, past the grace of {GRACE_S:g} s\n{stops}\ncounts\n{counts}\n"
            f"{len(self.troubles)} servers in trouble\n{wrong}\n{len(self.violations)} violations\n{bad}\n"
            f"{self.stops.total()} stops in {self.seconds:.1f} s"
        )


def _spread(values: Sequence[float]) -> str:
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else [*values] * 99
    return f"p50 {cuts[49]:+.2f} s, p99 {cuts[98]:+.2f} s, max {max(values):+.2f} s"


# ------------------------------------------------------------------ planning


def plan_stops(seed: int, total: int) -> list[list[Stop]]:
    """Return series of stops: each kind at least once, if there are that many, the others by their weights."""
    rng = random.Random(seed)
    kinds = [*KINDS, *rng.choices(KINDS, _WEIGHTS, k=max(total - len(KINDS), 0))][:total]
    rng.shuffle(kinds)
    stops = [Stop(kind, rng.randint(1, _ANSWERS), _pause(rng, kind)) for kind in kinds]
    return [stops[at : at + _SERIES] for at in range(0, total, _SERIES)]


def _pause(rng: random.Random, kind: Kind) -> float:
    return rng.uniform(0.0, 0.03) if kind.at_start else rng.choice((0.0, 0.15, rng.uniform(0.0, 1.2)))


# ------------------------------------------------------------------ running


def run(seed: int, cycles: int, folder: Path) -> Report:
    """Run a whole campaign, with as many servers at once as SERVERS says."""
    began = time.perf_counter()
    total = Report()
    waiting = deque(enumerate(plan_stops(seed, cycles)))

    def work(name: str) -> Report:
        part = Report()
        home = folder / name
        home.mkdir(parents=True)
        with Nursery(folder / f"{name}.log", "tests.shutdown.server") as nursery:
            while waiting:
                try:
                    number, stops = waiting.popleft()
                except IndexError:  # the other one was quicker
                    break
                part.add(run_series(stops, home, seed * 10_000 + number, nursery))
        return part

    with ThreadPoolExecutor(SERVERS) as pool:
        for part in pool.map(work, [f"server{at}" for at in range(SERVERS)]):
            total.add(part)
    total.seconds = time.perf_counter() - began
    return total


def run_series(stops: Sequence[Stop], folder: Path, seed: int, nursery: Nursery) -> Report:
    """Stop one server after the other on one file, then let a last app finish, and judge the file."""
    clean(folder)
    db, starts = folder / "app.db", folder / "starts"
    first = Plan(db=str(db), starts=str(starts), seed=seed, auth=seed % 2 == 1, grace_s=GRACE_S)
    report, history, targets = Report(), History(), list[str]()
    for life, stop in enumerate(stops):
        plan = replace(first, life=life)
        asyncio.run(_one(plan, stop, history, targets, nursery, report))
    finish = replace(first, life=len(stops), finish_within_s=_FINISH_S)
    ended = nursery.live(finish.save(folder / "plan.json"))
    if ended.status:
        report.troubles.append(("the last app", f"seed {seed}: ended with {ended.status}"))
    read_out(history, db, starts)
    report.violations = [(seed, violation) for violation in check(history)]
    report.counts["action starts"] += len(history.starts)
    for answers in history.answers.values():
        for answer in answers:
            report.counts[f"answers: {answer.verdict}"] += 1
    for row in history.rows:
        report.counts[f"jobs: {row.state}{f' ({row.cause})' if row.cause else ''}"] += 1
    return report


async def _one(*given: Any) -> None:
    await _Server(*given).run()


def stop_one(plan: Plan, kind: Kind, asks: Sequence[Ask], nursery: Nursery) -> Report:
    """Send these calls to one server, and the signals once they are answered."""
    report = Report()
    asyncio.run(_one(plan, Stop(kind, len(asks), 0.0), History(), [], nursery, report, asks))
    return report


class _Server:
    """One server, from its start to its exit."""

    def __init__(
        self,
        plan: Plan,
        stop: Stop,
        history: History,
        targets: list[str],
        nursery: Nursery,
        report: Report,
        only: Sequence[Ask] = (),
    ) -> None:
        self._plan = plan
        self._stop = stop
        self._history = history
        self._targets = targets
        self._nursery = nursery
        self._report = report
        self._only = only
        self._port = asyncio.get_running_loop().create_future()
        self._told: list[str] = []

    async def run(self) -> None:
        """Start it, send it calls, stop it, and say how it ended."""
        pid, out = self._nursery.begin(self._plan.save(Path(self._plan.db).with_name("plan.json")))
        exited = asyncio.ensure_future(self._listen(out))
        crowd = Crowd(self._history, self._targets)
        load = asyncio.ensure_future(self._load(crowd))
        kind = self._stop.kind
        if kind.at_start:
            await asyncio.wait([exited], timeout=self._stop.wait_s)
        else:
            await asyncio.wait(
                [asyncio.ensure_future(crowd.answered(self._stop.after)), exited], return_when="FIRST_COMPLETED"
            )
        signaled, before = time.perf_counter(), crowd.answers
        os.kill(pid, kind.signals[0])  # not reaped before we ask for it, so the pid is its own
        for another in kind.signals[1:]:
            await asyncio.wait([exited], timeout=self._stop.wait_s)
            os.kill(pid, another)
        await asyncio.wait([exited], timeout=BOUND_S)
        hung = not exited.done()
        if hung:
            os.kill(pid, signal.SIGKILL)
        took = await exited - signaled
        self._port.cancel()
        await load
        self._report.counts["answers after the signal"] += crowd.answers - before
        status = os.waitstatus_to_exitcode(self._nursery.reap())
        self._judge(status, took, hung=hung)

    async def _listen(self, out: int) -> float:
        """Read what the server tells; return when it has exited."""
        reader = asyncio.StreamReader()
        with open(out, "rb", buffering=0) as pipe:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), pipe
            )
            while line := await reader.readline():
                told = json.loads(line)
                self._told.append(told[0])
                if told[0] == "port" and not self._port.done():
                    self._port.set_result(told[1])
            transport.close()
        return time.perf_counter()

    async def _load(self, crowd: Crowd) -> None:
        try:
            port = await self._port
        except asyncio.CancelledError:  # it was stopped before it could be reached
            return
        plan = self._plan
        workloads = []
        for at in range(0 if self._only else _CLIENTS):
            prefix = f"{plan.life}w{at}"
            rng = random.Random(f"{plan.seed} {prefix}")
            workloads.append(Workload(rng, prefix, self._targets, sleepers=SLEEPERS, rich=True))
        await crowd.run(port, self._only or self._history.unacknowledged(), workloads, _CALLS)

    def _judge(self, status: int, took: float, *, hung: bool) -> None:
        report, plan, kind = self._report, self._plan, self._stop.kind
        report.stops[kind.name] += 1
        report.over_s.setdefault(kind.name, []).append(took - plan.grace_s)
        told = self._told
        report.counts["stopped while starting"] += "started" not in told
        report.counts["stopped in good order"] += "stopped" in told
        wrong = []
        if hung:
            wrong.append(f"had not exited {BOUND_S:g} s after the signal")
        elif status not in kind.status:
            wrong.append(f"exited with {status}")
        if kind.graceful and "stopped" not in told:
            wrong.append("its lifespan did not end")
        if "stopped" in told:
            wrong.extend(_left_behind(Path(plan.db)))
        when = f"seed {plan.seed}, life {plan.life}, after {self._stop.after} answers, {self._stop.wait_s:.3f} s"
        report.troubles.extend((kind.name, f"{when}: {what}") for what in wrong)


def _left_behind(db: Path) -> list[str]:
    """Return what a stop in good order should not leave. No app may be running."""
    left = []
    wal = db.with_name(db.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        left.append(f"left a log of {wal.stat().st_size} bytes")
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as file:
        running = file.execute("SELECT count(*) FROM _scheduler_jobs WHERE state = 'in_progress'").fetchone()[0]
    if running:
        left.append(f"left {running} jobs in progress")
    return left
