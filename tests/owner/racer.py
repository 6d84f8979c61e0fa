"""Processes that want one file: each waits at a gate, tries to become its owner, and says when it did, or why not.

    python -m tests.owner.racer --nursery <fd>      forks one for each request on a socket

An owner that stays answers signals: SIGUSR1 makes it write a row, SIGTERM lets it leave.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from runtime import ActorSchedulerError, App, MutationCtx, Namespace
from tests.crash.forking import serve

SCHEMA = "CREATE TABLE entries (racer TEXT NOT NULL, epoch INTEGER NOT NULL) STRICT"
After = Literal["stays", "leaves", "dies", "forks"]

owner = Namespace("owner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Racer:
    """What one process is told."""

    name: str
    db: str
    gate: str  # everybody starts when whoever holds this file's lock lets go of it
    patience_s: float = 0.0
    after: After = "stays"

    def save(self, path: Path) -> Path:
        """Write it to a file and return its path."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path


@owner.mutation
async def enter(ctx: MutationCtx, *, racer: str) -> int:
    """Write that this racer was here, and return how many entries there are."""
    await ctx.db.execute("INSERT INTO entries SELECT ?, count(*) FROM entries", (racer,))
    return await ctx.db.fetch_value("SELECT count(*) FROM entries", into=int) or 0


def _app(db: str, patience_s: float) -> App[Any]:
    app: App[Any] = App(db, namespaces=[owner], lock_timeout=patience_s)
    app.schema(SCHEMA)
    return app


def live(path: Path, out: int) -> None:
    """Run one racer; what it has to tell goes to `out`, with the moment, on the clock that all processes share."""
    racer = Racer(**json.loads(path.read_text(encoding="utf-8")))

    def tell(what: str, *more: Any) -> None:
        os.write(out, json.dumps([what, time.monotonic_ns(), *more]).encode() + b"\n")

    with open(racer.gate, "rb") as gate:
        tell("ready")
        fcntl.flock(gate, fcntl.LOCK_SH)
    asyncio.run(_race(racer, tell))


async def _race(racer: Racer, tell: Callable[..., None]) -> None:
    app = _app(racer.db, racer.patience_s)
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    try:
        await app.__aenter__()
    except ActorSchedulerError as error:
        tell("refused", type(error).__name__, str(error))
        return
    tell("owns")
    tell("wrote", await app.call(enter, racer=racer.name))
    if racer.after == "forks":
        await _fork(app, racer, tell)
    if racer.after == "dies":
        tell("lets go")
        os.kill(os.getpid(), signal.SIGKILL)
    if racer.after in ("stays", "forks"):
        writing: set[asyncio.Task[None]] = set()

        async def write() -> None:
            tell("wrote", await app.call(enter, racer=racer.name))

        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, lambda: writing.add(asyncio.ensure_future(write()))
        )
        tell("waits")
        await leave.wait()
    tell("lets go")
    await app.__aexit__(None, None, None)
    tell("left")


# ------------------------------------------------------------------ forks of a process whose app is open


def _attempt(step: Callable[[], Coroutine[Any, Any, Any]]) -> list[str]:
    """Return what a call in the child raises at its first step; the loop it would need stayed with the parent."""
    call = step()
    try:
        call.send(None)
    except StopIteration:
        return ["done", ""]
    except BaseException as error:
        return [type(error).__name__, str(error)]
    finally:
        call.close()
    return ["waits", ""]


def _started(app: App[Any]) -> list[str]:
    async def start() -> None:
        async with app:
            pass

    try:
        asyncio.run(start())
    except BaseException as error:
        return [type(error).__name__, str(error)]
    return ["done", ""]


def _child(app: App[Any], racer: Racer, tell: Callable[..., None]) -> None:
    tell("child", "live", *_attempt(lambda: app.call(enter, racer="child")))
    tell("child", "schedule", *_attempt(lambda: app.scheduler.run_now(enter.bind(racer="child"))))
    tell("child", "cancel", *_attempt(lambda: app.scheduler.cancel(key="k")))
    tell("child", "same app", *_started(app))
    tell("child", "new app", *_started(_app(racer.db, 0)))
    gc.collect()  # what a connection does when it is collected, it does here


async def _fork(app: App[Any], racer: Racer, tell: Callable[..., None]) -> None:
    """Fork while calls are under way; each child tries what it must not, and ends as multiprocessing ends it."""
    context = multiprocessing.get_context("fork")
    for _ in range(4):
        calls = [asyncio.ensure_future(app.call(enter, racer=racer.name)) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # accepted: the writer's thread is in a turn while we fork
        child = context.Process(target=_child, args=(app, racer, tell))
        child.start()
        await asyncio.gather(*calls)
        await asyncio.to_thread(child.join)
        tell("child", "exit", str(child.exitcode), "")


def main() -> None:
    """Run a nursery."""
    parser = argparse.ArgumentParser(prog="python -m tests.owner.racer")
    parser.add_argument("--nursery", type=int, metavar="FD", required=True)
    with socket.socket(fileno=parser.parse_args().nursery) as control:
        serve(control, live)


if __name__ == "__main__":
    main()
