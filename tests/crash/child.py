"""A process that is made to be killed: an app on uvloop, busy with a seeded workload.

    python -m tests.crash.child <db> [--plan plan.json]     one life; asks and answers go to standard output
    python -m tests.crash.child --nursery <fd>              forks one life for each request on a socket

What it asks for, and what it was answered, is written out before it goes on: whatever the parent has read, happened.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from actor_scheduler import crashpoints, pruning, retention
from actor_scheduler.store.sqlite import connection, store
from actor_scheduler.times import to_datetime
from runtime import ActorSchedulerError, App
from tests.crash import crons
from tests.crash.asking import answer, new_jobs
from tests.crash.forking import serve
from tests.crash.functions import make_app, wall_us
from tests.crash.history import Ask, plain
from tests.crash.plan import STATEMENT, Plan
from tests.crash.workload import Workload

_PRUNE_US = 10_000


class Life:
    """One life: it asks, and tells the parent."""

    def __init__(self, plan: Plan, out: int) -> None:
        self._plan = plan
        self._out = out
        self._app: App[Any] = make_app(
            plan.db, plan.starts, auth=plan.auth, hurried=plan.finish_within_s is not None, grace=plan.grace_s,
            max_running_actions=plan.slots, manifest=plan.manifest, ahead_us=plan.ahead_us,
        )  # fmt: skip
        self._targets: list[str] = list(plan.targets)
        self._brief: list[str] = []
        self._crons: list[str] | None = list(plan.crons) if plan.manifest is not None else None

    async def run(self) -> None:
        """Start, ask for everything, and stop while some calls are still under way."""
        plan = self._plan
        async with self._app:
            if plan.manifest is not None:
                self._tell("manifest", plan.manifest)
            if plan.finish_within_s is not None:
                await self._finish(plan.finish_within_s)
                return
            for ask in plan.resend:
                await self._send(Ask.of(ask))
            await asyncio.gather(*(self._work(f"{plan.life}w{at}") for at in range(plan.workers)))
            late = [asyncio.create_task(self._work(f"{plan.life}z{at}", calls=3)) for at in range(plan.workers)]
            await asyncio.sleep(0)  # they have sent their first call, and will send more into the shutdown
        await asyncio.gather(*late)

    async def _work(self, prefix: str, calls: int | None = None) -> None:
        rng = random.Random(f"{self._plan.seed} {prefix}")
        # All aim at each other's jobs.
        workload = Workload(
            rng, prefix, self._targets, self._plan.only, brief=self._brief, rich=self._plan.rich, cron_names=self._crons
        )
        for _ in range(calls if calls is not None else self._plan.calls):
            for ask in workload.next():
                await self._send(ask)

    async def _finish(self, seconds: float) -> None:
        """Return when every job has ended and no cron fires; after `seconds` in any case: a lost job is to be seen."""
        scheduler = self._app.scheduler
        try:
            async with asyncio.timeout(seconds):
                if self._crons is not None:
                    await self._crons_have_caught_up()
                while True:
                    waiting = [
                        job.id for state in ("pending", "in_progress") async for job in scheduler.list(state=state)
                    ]
                    fired = await self._pause_crons()  # a job may have registered one more
                    if not fired and not waiting:
                        return
                    waits = (scheduler.wait(job_id) for job_id in waiting)
                    await asyncio.gather(*waits, return_exceptions=True)  # one that was forgotten meanwhile is none
        except TimeoutError:
            return

    async def _crons_have_caught_up(self) -> None:
        now_us = wall_us()
        self._tell("caught_up", now_us)
        while any([info.next_at and info.next_at <= to_datetime(now_us) async for info in self._app.crons.list()]):
            pass  # reading them gives way to the app

    async def _pause_crons(self) -> bool:
        """Let no cron fire any more; return whether one did until now."""
        firing = [info.name async for info in self._app.crons.list() if info.next_at is not None]
        for name in firing:
            with contextlib.suppress(ActorSchedulerError):  # it has deleted itself
                await self._app.crons.pause(name, note=crons.FINISH)
        return bool(firing)

    async def _send(self, ask: Ask) -> None:
        self._tell("ask", plain(ask), wall_us())
        given = await answer(self._app, ask)
        self._tell("answer", ask.op, given.verdict, given.value, given.leaked, wall_us())
        self._targets.extend(new_jobs(ask, given))
        if ask.bodies and ask.bodies[0].brief:
            self._brief.extend(new_jobs(ask, given))
        if ask.do == "register" and ask.cron is not None and given.verdict == "ack" and self._crons is not None:
            self._crons.append(ask.cron)

    def _tell(self, *event: Any) -> None:
        os.write(self._out, json.dumps(event, separators=(",", ":")).encode() + b"\n")


def live(plan: Plan, out: int) -> None:
    """Live one life, to its end or to its crash point."""
    if plan.planted is not None:
        from tests.crash import planted

        planted.plant(plan.planted)
    if plan.manifest is not None:
        crons.prepare()
    for module in (retention, pruning):
        vars(module).update(PRUNE_US=_PRUNE_US)  # a life is too short for the real one
    if plan.die_at is not None:
        executioner = _Executioner(plan.die_at, plan.die_after)
        crashpoints.install(executioner)
        if plan.die_at == STATEMENT:
            _watch_statements(executioner)
    life = Life(plan, out)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life.run())


def _watch_statements(reach: Callable[[str], None]) -> None:
    connect = connection.connect_writer

    def watched(path: Path, synchronous: str) -> sqlite3.Connection:
        raw = connect(path, synchronous)
        raw.set_trace_callback(lambda _: reach(STATEMENT))
        return raw

    vars(store).update(connect_writer=watched)


class _Executioner:
    """Kills this process at the n-th reach of a point."""

    def __init__(self, point: str, reaches: int) -> None:
        self._point = point
        self._left = reaches

    def __call__(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run one life, or a nursery."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.child")
    parser.add_argument("db", nargs="?", help="the database file")
    parser.add_argument("--plan", type=Path, help="a plan, as JSON")
    parser.add_argument("--nursery", type=int, metavar="FD", help="fork lives, as asked for on this socket")
    given = parser.parse_args()
    if given.nursery is not None:
        with socket.socket(fileno=given.nursery) as control:
            serve(control, lambda plan, out: live(Plan.load(plan), out))
        return
    if given.db is None and given.plan is None:
        parser.error("give the database, or a plan")
    live(Plan.load(given.plan) if given.plan else Plan(db=given.db, starts=given.db + ".starts"), 1)


if __name__ == "__main__":
    main()
