"""A process that is made to be killed: an app on uvloop, busy with a seeded workload.

    python -m tests.crash.child <db> [--plan plan.json]     one life; asks and answers go to standard output
    python -m tests.crash.child --nursery <fd>              forks one life for each request on a socket

What it asks for, and what it was answered, is written out before it goes on: whatever the parent has read, happened.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import socket
import traceback
from pathlib import Path
from typing import Any

import uvloop

from actor_scheduler import crashpoints
from runtime import ActorSchedulerError, App, FunctionError, OutcomeUnknown, PartiallyScheduled
from tests.crash.functions import call_of, calls_of, make_app, wall_us, work
from tests.crash.history import Ask, plain
from tests.crash.plan import Plan
from tests.crash.workload import Workload

_WAIT_SECONDS = 0.05
FAILED = 70  # the exit status of a life that ended in a way it never should


class Life:
    """One life: it asks, and tells the parent."""

    def __init__(self, plan: Plan, out: int) -> None:
        self._plan = plan
        self._out = out
        self._app: App[Any] = make_app(plan.db, plan.starts, auth=plan.auth)
        self._targets: list[str] = list(plan.targets)

    async def run(self) -> None:
        """Start, ask for everything, and stop while some calls are still under way."""
        plan = self._plan
        async with self._app:
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
        workload = Workload(rng, prefix, self._targets, self._plan.only)  # all aim at each other's jobs
        for _ in range(calls if calls is not None else self._plan.calls):
            for ask in workload.next():
                await self._send(ask)

    async def _finish(self, seconds: float) -> None:
        """Return when every job has ended; after `seconds` in any case: a lost job is to be seen."""
        scheduler = self._app.scheduler
        try:
            async with asyncio.timeout(seconds):
                while waiting := [
                    job.id for state in ("pending", "in_progress") async for job in scheduler.list(state=state)
                ]:
                    await asyncio.gather(*(scheduler.wait(job_id) for job_id in waiting))
        except TimeoutError:
            return

    async def _send(self, ask: Ask) -> None:
        self._tell("ask", plain(ask), wall_us())
        leaked: list[str] = []
        try:
            verdict, value = "ack", await self._call(ask)
        except FunctionError as error:  # the mutation's own, planned failure: definite
            verdict, value, leaked = "refused", error.code, list((error.data or {}).get("ids", ()))
        except (OutcomeUnknown, PartiallyScheduled, TimeoutError) as error:
            verdict, value = "unknown", repr(error)
        except ActorSchedulerError as error:
            verdict, value = "refused", type(error).__name__
        except Exception as error:  # nothing else may come out of the public API
            traceback.print_exc()
            verdict, value = "error", repr(error)
        self._tell("answer", ask.op, verdict, value, leaked)
        if verdict == "ack" and ask.do in ("schedule", "many"):
            self._targets.extend([value] if ask.do == "schedule" else value)

    async def _call(self, ask: Ask) -> Any:
        scheduler = self._app.scheduler
        match ask.do:
            case "schedule":
                options: dict[str, Any] = {"idempotency_key": ask.idem} if ask.idem is not None else {}
                if ask.key is not None:
                    options |= {"key": ask.key, "on_conflict": ask.on_conflict}
                [body] = ask.bodies
                call = call_of(body)
                if body.delay_us == 0:
                    return await scheduler.run_now(call.path, call.args, **options)
                return await scheduler.run_after(body.delay_us / 1_000_000, call.path, call.args, **options)
            case "many":
                return await scheduler.run_many(calls_of(ask.bodies))
            case "live":
                caller = self._app if ask.idem is None else self._app.idempotent(ask.idem)
                return await caller.call(work, body=plain(ask.bodies[0]))
            case "cancel" if ask.target is not None:
                return await scheduler.cancel(ask.target)
            case "cancel":
                return await scheduler.cancel(key=ask.target_key)
            case "wait":
                return (await scheduler.wait(ask.target or "", timeout=_WAIT_SECONDS)).state
            case "get":
                job = await scheduler.get(ask.target or "")
                return job.state if job is not None else None

    def _tell(self, *event: Any) -> None:
        os.write(self._out, json.dumps(event, separators=(",", ":")).encode() + b"\n")


def live(plan: Plan, out: int) -> None:
    """Live one life, to its end or to its crash point."""
    if plan.planted is not None:
        from tests.crash import planted

        planted.plant(plan.planted)
    if plan.die_at is not None:
        crashpoints.install(_Executioner(plan.die_at, plan.die_after))
    life = Life(plan, out)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life.run())


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


def nursery(control: socket.socket) -> None:
    """Fork a life for each request: everything is imported already, nothing is opened yet.

    A request is the path of a plan, with the descriptor to write to; the answers are the pid, and, when asked for, the
    wait status.  A dead life is only reaped when the parent asks, so that its pid can't belong to another meanwhile.
    """
    gc.freeze()
    while True:
        request, fds, _, _ = socket.recv_fds(control, 4096, 1)
        if not request:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            status = FAILED
            try:
                live(Plan.load(Path(request.decode())), fds[0])
                status = 0
            except BaseException:  # the parent sees the status, and the text in the nursery's log
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(fds[0])
        control.sendall(f"{pid}\n".encode())
        if not control.recv(1):
            os.kill(pid, signal.SIGKILL)
        _, wait_status = os.waitpid(pid, 0)
        control.sendall(f"{wait_status}\n".encode())


def main() -> None:
    """Run one life, or a nursery."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.child")
    parser.add_argument("db", nargs="?", help="the database file")
    parser.add_argument("--plan", type=Path, help="a plan, as JSON")
    parser.add_argument("--nursery", type=int, metavar="FD", help="fork lives, as asked for on this socket")
    given = parser.parse_args()
    if given.nursery is not None:
        with socket.socket(fileno=given.nursery) as control:
            nursery(control)
        return
    if given.db is None and given.plan is None:
        parser.error("give the database, or a plan")
    live(Plan.load(given.plan) if given.plan else Plan(db=given.db, starts=given.db + ".starts"), 1)


if __name__ == "__main__":
    main()
