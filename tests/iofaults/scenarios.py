"""What an app is doing while its disk fails. Each scenario says itself from where on calls may fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from actor_scheduler.errors import ActorSchedulerError
from actor_scheduler.limits import SECOND_US
from actor_scheduler.store.sqlite.thread import ThreadDb
from tests.crash import crons
from tests.crash.child import Life
from tests.crash.functions import make_app
from tests.crash.history import Ask, Body
from tests.faults.rig import Rig
from tests.shim import control

DB: Final = "app.db"
_OUTAGE_US: Final = 100 * SECOND_US  # past the minute after which a tick was missed
_A_WHILE: Final = 15.0  # virtual seconds: three times the longest pause between two tries


class Mode(StrEnum):
    """For how long calls fail, once the n-th has."""

    ONCE = "once"
    OUTAGE = "until it heals"
    FOR_EVER = "for ever"


class Files(StrEnum):
    """Whose calls fail."""

    DATABASE = "database"  # SQLite's own, and whatever else there is
    SIDE = "side"  # the lock's file, and the one that says who was running


_SIDE: Final = (f"{DB}-lock", f"{DB}-blame")
SPARED: Final = {Files.DATABASE: _SIDE, Files.SIDE: (".", DB, *(f"{DB}-{end}" for end in ("wal", "shm", "journal")))}


@dataclass(frozen=True, slots=True)
class Fault:
    """Which call fails, and how."""

    files: Files

    calls: control.Calls
    error: int
    mode: Mode
    nth: int


class Refused(Exception):
    """The app would not start; the scenario ends there."""


class Run(Life):
    """One process with one app, that tells what it asks and what it is answered."""

    def __init__(self, folder: Path, starts: Path, out: int, fault: Fault | None) -> None:
        self._out = out
        self.fault = fault
        self._targets: list[str] = []
        self._crons = None
        self._manifest: int | None = None
        self.rig = Rig(folder / DB, db=ThreadDb)
        self.rig.app = self._app = make_app(str(folder / DB), str(starts), auth=False)
        self._app._clock = self.rig.clock
        self._app._lock_timeout_us = SECOND_US // 20  # nobody else has the file: who finds it locked left it so

    def define_crons(self) -> None:
        """Let the app have crons: those of the slow version, since seconds pass on its clock."""
        self._manifest = crons.SLOW
        self._app.crons._activation = "automatic"
        self._app.crons.define_crons([defined.job() for defined in crons.manifest(crons.SLOW)])

    def arm(self) -> None:
        """From here on the fault may strike."""
        if self.fault is None:
            control.count_anew()
            return
        control.spare(SPARED[self.fault.files])
        for_ever = self.fault.mode is not Mode.ONCE
        control.fail(self.fault.calls, self.fault.nth, self.fault.error, for_ever=for_ever)

    async def start(self) -> None:
        """Start, in a second try if need be. Raises Refused when that fails too."""
        for last in (False, True):
            try:
                await self.rig.start()
            except Exception as error:
                self._tell("start", isinstance(error, ActorSchedulerError), repr(error))
                if last:
                    raise Refused from error
            else:
                if self._manifest is not None:
                    self._tell("manifest", self._manifest)
                return

    async def stop(self) -> None:
        """Stop as a deploy does."""
        try:
            await self.rig.stop()
        except Exception as error:
            self._tell("stop", isinstance(error, ActorSchedulerError), repr(error))

    async def send(self, *asks: Ask) -> None:
        """Send calls at once: they share a turn."""
        sent = asyncio.gather(*(self._send(ask) for ask in asks))
        await self.rig.rest()
        await self.rig.pass_time(0.01)
        await sent

    async def live(self, scenario: Callable[[Run], Awaitable[None]]) -> None:
        """Live through a scenario; then the disk is well again, unless it fails for ever, and so must be the app."""
        fault = self.fault
        try:
            with contextlib.suppress(Refused):
                await scenario(self)
        except AssertionError as busy:  # of the rig, which notices an app that loops without time passing
            self._tell("fired", control.fired(), {})
            self._tell("busy", str(busy))
            os._exit(0)
        if fault is not None and fault.mode is Mode.FOR_EVER:
            await self.stop()
        self._tell("fired", control.fired(), {calls.name: control.count(calls) for calls in control.Calls})
        if fault is not None and fault.mode is Mode.FOR_EVER:
            return
        control.heal()
        if self._app._engine is None:
            try:
                await self.start()
            except Refused as error:
                self._tell("healed", f"it does not start: {error.__cause__}")
                return
        await self.rig.pass_time(_A_WHILE)
        self._tell("caught_up", self.rig.clock.now_us())
        self._tell("healed", self._app.unready_reason)
        await self.send(Ask("probe", "live", (Body("probe"),)))
        await self.stop()


# ------------------------------------------------------------------ scenarios


def _job(op: str, kind: Any = "mutation", **more: Any) -> Body:
    return Body(op, kind=kind, **more)


def _schedule(op: str, kind: Any = "mutation", **more: Any) -> Ask:
    return Ask(op, "schedule", (_job(op, kind),), **more)


async def create(run: Run) -> None:
    """A first start, on nothing."""
    run.arm()
    await run.start()
    await run.send(_schedule("a"))


async def schedule(run: Run) -> None:
    """Jobs are scheduled one by one and together, in a batch, under keys, and canceled."""
    await run.start()
    await run.send(Ask("old", "schedule", (_job("old", delay_us=SECOND_US),), key="old"))
    run.arm()
    await run.send(_schedule("one", idem="one"))
    await run.send(
        *(Ask("look", "get", target=job_id) for job_id in run._targets[-1:])
    )  # the first query opens a reader
    await run.send(
        _schedule("two"), _schedule("three", "action"), _schedule("four", key="k"),
        Ask("many", "many", tuple(_job(f"many-{at}") for at in range(6))),
        Ask("replaced", "schedule", (_job("replaced"),), key="k", on_conflict="replace"),
    )  # fmt: skip
    await run.send(Ask("cancel", "cancel", target_key="old"), _schedule("one-again", "action", idem="two"))


async def mutate(run: Run) -> None:
    """Mutations are called and fall due, nest, schedule, fail, and share commits; the log is checkpointed meanwhile."""
    await run.start()
    run.arm()
    nested = _job("whole/n", fail=True, children=(_job("whole/n/0"),))
    await run.send(Ask("whole", "live", (_job("whole", children=(_job("whole/0"), _job("whole/1")), nested=nested),)))
    await run.send(
        *(Ask(f"g{at}", "live", (_job(f"g{at}"),)) for at in range(4)),
        Ask("fails", "live", (_job("fails", fail=True, children=(_job("fails/0"),)),)),
        Ask("once", "live", (_job("once"),), idem="once"),
    )  # fmt: skip
    await run.send(
        *(_schedule(f"due{at}") for at in range(4)),
        Ask("acts", "schedule", (_job("acts", "action", writes=True, children=(_job("acts/0"),)),)),
        Ask("due-fails", "schedule", (_job("due-fails", fail=True),)),
    )  # fmt: skip
    await run.rig.pass_time(1)


async def catch_up(run: Run) -> None:
    """A start after a crash: a log to read again, interrupted actions, and a backlog that is due."""
    run.rig.clock.move_to(run.rig.clock.now_us() + 2 * SECOND_US)
    run.arm()
    await run.start()
    await run.rig.pass_time(1)


async def shut_down(run: Run) -> None:
    """A clean stop with work still coming in: the last commits, the checkpoint, the log's end."""
    await run.start()
    await run.send(*(Ask(f"early{at}", "live", (_job(f"early{at}"),)) for at in range(3)))
    run.arm()
    late = asyncio.gather(*(run._send(_schedule(f"late{at}", "action")) for at in range(3)))
    await asyncio.sleep(0)
    await run.stop()
    await late


async def cron(run: Run) -> None:
    """A start with crons, after an outage: they catch up, fire, are registered, paused, deleted; the clock jumps."""
    run.define_crons()
    run.rig.clock.move_to(run.rig.clock.now_us() + _OUTAGE_US)
    run.arm()
    await run.start()
    await run.send(
        Ask("kept", "register", cron="slow-1~kept", idem="kept"), Ask("gone", "register", cron="slow-2~gone"),
        Ask("inside", "live", (_job("inside", registers="slow-3~once"),)),
        Ask("undone", "live", (_job("undone", fail=True, registers="slow-4~kept"),)),
    )  # fmt: skip
    run.rig.clock.move_to(run.rig.clock.now_us() + _OUTAGE_US)
    await run.rig.pass_time(0.01)
    await run.send(
        Ask("by hand", "run_cron", cron="slow-minute"), Ask("pause", "pause", cron="slow-all"),
        Ask("again", "reschedule", cron="slow-2~gone", value=30 * SECOND_US),
    )  # fmt: skip
    await run.rig.pass_time(25)
    await run.send(Ask("resume", "resume", cron="slow-all"), Ask("delete", "unregister", cron="slow-2~gone"))


async def ready(run: Run) -> None:
    """What the scenarios of a running app find: a file that was used and closed before."""
    await run.start()
    await run.stop()


async def backlog(run: Run) -> None:
    """What `catch_up` finds: this process ends without closing anything."""
    await run.start()
    await run.send(*(Ask(f"b{at}", "schedule", (_job(f"b{at}", delay_us=SECOND_US),)) for at in range(6)))
    await run.send(Ask("bmany", "many", tuple(_job(f"bm{at}", delay_us=SECOND_US) for at in range(4))))
    late = _job("blate", "action", writes=True, delay_us=SECOND_US)
    await run.send(Ask("blive", "live", (_job("blive"),)), Ask("blate", "schedule", (late,)))
    sent = asyncio.gather(run._send(_schedule("running", "action")), run._send(_schedule("running2", "action")))
    await run.rig.rest()
    await sent
    os._exit(0)


async def ticked(run: Run) -> None:
    """What `cron` finds: crons that have fired, of a process that died."""
    run.define_crons()
    await run.start()
    await run.send(Ask("before", "register", cron="slow-0~kept"))
    os._exit(0)


SCENARIOS: Final[dict[str, Callable[[Run], Awaitable[None]]]] = {
    "create": create, "schedule": schedule, "mutate": mutate, "catch_up": catch_up, "shut_down": shut_down,
    "cron": cron,
}  # fmt: skip
FINDS: Final = {  # `create` finds nothing
    "catch_up": backlog, "schedule": ready, "mutate": ready, "shut_down": ready, "cron": ticked,
}  # fmt: skip


def read_told(raw: bytes) -> list[list[Any]]:
    """Return what a process told, line by line; of one that was killed the last line may be missing."""
    return [json.loads(line) for line in raw.split(b"\n")[:-1]]
