"""One life of a real app, under the shim: what it did to its files, and when it was told what."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import sqlite3
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from actor_scheduler.store.sqlite import connection
from actor_scheduler.store.sqlite import store as sqlite_store
from tests.crash import functions, planted
from tests.crash.child import Life
from tests.crash.plan import Plan
from tests.powerloss.judge import DB
from tests.shim import control
from tests.shim.log import Event, read

TOLD: Final = "told"  # what was asked and answered: a file in the watched folder, so that the log has its place
STARTS: Final = "starts"  # the same for the starts of actions
NOTES: Final = frozenset({TOLD, STARTS})
_LOG_PAGES: Final = 40  # an automatic checkpoint every few turns, instead of after a thousand pages
_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How one life is lived."""

    seed: int
    life: int = 0
    workers: int = 4
    calls: int = 4  # of each worker
    auth: bool = False
    synchronous: str = "FULL"
    sync_fails: int | None = None  # the sync with this number fails with EIO, once
    manifest: int | None = None  # the version of the crons that the code defines; None: no crons at all
    planted: str | None = None  # a bug, as tests.crash.planted names it


def checkpoint_often() -> None:
    """Let the log be checkpointed and begun anew every few turns, in every store of this process."""
    connect = connection.connect_writer

    def connect_writer(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        raw = connect(*args, **kwargs)
        raw.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        return raw

    assert hasattr(sqlite_store, "connect_writer"), "the store opens its connection elsewhere now"
    vars(sqlite_store)["connect_writer"] = connect_writer


def live(
    folder: Path,
    image: Mapping[str, bytes],
    setting: Setting,
    *,
    resend: Sequence[dict[str, Any]] = (),
    targets: Sequence[str] = (),
    crons: Sequence[str] = (),
) -> list[Event]:
    """Live one life in a forked child, on the files of an image, and return the log of it.

    The folder keeps the files as they were when it ended.  Raises AssertionError for a life that ended as none should.
    """
    log = folder.with_name(f"{folder.name}-log")
    log.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, data in image.items():
        (folder / name).write_bytes(data)
    plan = Plan(
        db=str(folder / DB), starts=str(folder / STARTS), seed=setting.seed, life=setting.life, resend=resend,
        targets=targets, workers=setting.workers, calls=setting.calls, auth=setting.auth, planted=setting.planted, rich=True,
        manifest=setting.manifest, crons=crons,
    )  # fmt: skip
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            _be_born(folder, log, plan, setting)
            status = 0
        except BaseException:
            if setting.sync_fails is None:
                traceback.print_exc()
        finally:
            os._exit(status)
    status = _reap(pid)
    assert status == 0 or setting.sync_fails is not None, f"a life ended with {status}: {setting}"
    return read(log.read_bytes())


def _be_born(folder: Path, log: Path, plan: Plan, setting: Setting) -> None:
    control.watch(folder, log)
    checkpoint_often()
    if setting.planted is not None:
        planted.plant(setting.planted)
    told = os.open(folder / TOLD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    life = Life(plan, told)
    life._app._synchronous = setting.synchronous  # type: ignore[assignment]
    starts = os.open(folder / STARTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    functions._record_start = lambda line: os.write(starts, line)  # type: ignore[assignment]
    if setting.sync_fails is not None:
        control.fail(control.Calls.SYNC, setting.sync_fails, errno.EIO)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life.run())


def _reap(pid: int) -> int:
    """Wait for a child, and kill it when it hangs."""
    ended = os.pidfd_open(pid)
    try:
        if not select.select([ended], [], [], _PATIENCE_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(ended)
