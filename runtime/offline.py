"""A database file that no app has open: read and steered without the app's functions, brought up to date, copied.

What is opened here is not started.  No job is dispatched and no cron fires; nothing is pruned; the manifest of crons
stays as it is; actions that a killed process left `in_progress` stay so, and the mutation it left named stays named,
until the app itself starts and judges them by its functions' own policies.  Starts are counted by the app's starts
alone.
"""

from __future__ import annotations

import ast
import contextlib
import os
import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from actor_scheduler.actor import Actor
from actor_scheduler.clock import SystemClock
from actor_scheduler.errors import AlreadyStarted, SchemaError, StoreUnavailable
from actor_scheduler.queues import PLAIN, Limit, Routing
from actor_scheduler.settings import POOL_LIMIT_MAX
from actor_scheduler.store.sqlite import SqliteStore
from actor_scheduler.store.sqlite.app_schema import SchemaStep, apply_steps
from actor_scheduler.store.sqlite.backup import Backup, backup
from actor_scheduler.store.sqlite.blame import NOBODY, BlameFile
from actor_scheduler.store.sqlite.connection import Connection, connect_reader, connect_writer, prepare_file
from actor_scheduler.store.sqlite.faults import describe
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.lock import OwnerLock, holder
from actor_scheduler.store.sqlite.recovery import found
from actor_scheduler.store.sqlite.schema import VERSION, check_ours, make_view, migrate
from runtime.app import App
from runtime.engine import Engine
from runtime.providers import Providers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actor_scheduler.clock import Clock
    from actor_scheduler.store.base import Found, Host

UNDECLARED: Final = POOL_LIMIT_MAX  # the limit of a pool whose declaration is in code that is not here

_SIDE_FILES: Final = ("-wal", "-shm", "-lock", "-blame")
_META: Final = ours("SELECT value FROM main._scheduler_meta WHERE name = ?")
_HIGHEST: Final = ours("SELECT coalesce(max(seq), 0) FROM main._scheduler_jobs")


class Migrated(NamedTuple):
    """What became of a file: its schema's version before and after, and the copy of what it was before."""

    before: int
    after: int
    copy: Path | None


class OfflineApp(App[Any]):
    """An app over a file, without its functions: it reads and steers what stands there, and runs nothing.

    It owns the file while it is open, as every app does: raises DatabaseLocked, at once, while an app has it open.
    Calls and schedules raise UnknownFunction, activations InvalidCron.  Jobs that are canceled here are kept for seven
    days, whatever their function says.
    """

    def __init__(self, db: str | os.PathLike[str], /, *, clock: Clock | None = None) -> None:
        super().__init__(db, create=False, lock_timeout=0, grace=0, clock=clock)

    @property
    def unready_reason(self) -> str | None:
        """Why nothing is dispatched."""
        return super().unready_reason or "the file is open for an operator: its app does not run"

    async def _start(self) -> None:
        if self._engine is not None:
            msg = "the file is open already"
            raise AlreadyStarted(msg)
        prepare_file(self._db.resolve(), create=False)
        _check_version(self._db)
        routing = _routing(self._db)
        self._registry.check()
        providers = Providers(self._overrides)
        engine = Engine(self._registry, self._clock, providers, None, self._nonces, self._hooks, routing)
        store = _OfflineStore(self._db, engine, self._clock, create=False, lock_timeout_us=0, nonces=self._nonces)
        actor = _OfflineActor(store, engine, self._clock, slots=0, prunes=False, ticks=False)
        engine.attach(actor, store)
        self._engine = engine
        try:
            await actor.start()
        except BaseException:
            self._engine = None
            raise
        if _routing(self._db) != routing:  # it was read before the file was this process's own
            await self._stop()
            msg = f"{self._db} was started by its app in this very moment: try again"
            raise StoreUnavailable(msg)


class _OfflineActor(Actor):
    """Takes commands, and dispatches nothing."""

    def _begin_dispatching(self) -> None:
        """Do not begin."""


class _Untouched(BlameFile):
    """The file that names a mutation, left to the app's next start."""

    def open(self) -> int:
        """Name nobody, and look at nothing."""
        return NOBODY

    def remove(self) -> None:
        """Leave it: whoever stands in it has not been judged."""


class _OfflineStore(SqliteStore):
    """The store of a file that is opened, and not started."""

    def __init__(self, path: str | os.PathLike[str], host: Host, clock: Clock, **options: Any) -> None:
        super().__init__(path, host, clock, **options)
        self._blame = _Untouched(self.path)

    def _connect_first(self) -> sqlite3.Connection:
        """Open the file as it is: the app's start brings it up to date, or `migrate_file`."""
        _check_version(self.path)
        return self._connect_again()

    def _boot(self) -> Found:
        connection = self._connection
        assert connection is not None
        raw = connection.raw
        make_view(raw)
        self.boot = int(_meta(raw, "boot_epoch") or 0)
        reserved = int(_meta(raw, "seq_reserved") or 0)
        # The numbers reserved so far may have been given out: the first one taken here reserves more.
        self._make_runner(max(reserved, raw.execute(_HIGHEST).fetchone()[0] + 1, 1), reserved)
        return found(raw, self._host.routing, self._clock.now_us())


# ------------------------------------------------------------------ the file


def check_private(path: Path, euid: int | None = None) -> None:
    """Refuse, as root, a file that somebody else could have put there, or could change while it is open.

    That is a symbolic link, a file or a folder of another user, and the same beside it.  Raises StoreUnavailable.
    """
    if (os.geteuid() if euid is None and hasattr(os, "geteuid") else euid) != 0:
        return
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the link that is looked for
    folder = absolute.parent.stat()
    if folder.st_uid != 0:
        raise StoreUnavailable(_refusal(absolute.parent, f"belongs to user {folder.st_uid}"))
    if stat.S_IMODE(folder.st_mode) & 0o022 and not folder.st_mode & stat.S_ISVTX:
        raise StoreUnavailable(_refusal(absolute.parent, "can be written by others"))
    for each in (absolute, *(absolute.with_name(absolute.name + side) for side in _SIDE_FILES)):
        with contextlib.suppress(FileNotFoundError):
            seen = each.lstat()
            if stat.S_ISLNK(seen.st_mode):
                raise StoreUnavailable(_refusal(each, "is a symbolic link"))
            if seen.st_uid != 0:
                raise StoreUnavailable(_refusal(each, f"belongs to user {seen.st_uid}"))


def _refusal(path: Path, why: str) -> str:
    return f"{path} {why}, and this is root: run it as the user who owns the database (sudo -u …)"


def owner_of(path: Path) -> int | None:
    """Return the process that has a database open: 0 when it can't be told which, None when nobody has."""
    return holder(path.resolve())


async def migrate_file(path: Path, *, copy: bool = True) -> Migrated:
    """Bring a closed file to this release's schema, after a copy of what it was, beside it. No job is touched.

    Of a file that is there already nothing is written, and no copy is made.  Raises DatabaseLocked while an app has it
    open, SchemaError for a file of a newer release or another program, StoreUnavailable.
    """
    path = path.resolve()  # noqa: ASYNC240 - nothing else runs on this loop
    prepare_file(path, create=False)
    lock = OwnerLock(path)
    await lock.acquire(0)
    try:
        before = _version(path)
        if before == 0:
            msg = f"{path} holds nothing of the scheduler: is it the right file?"
            raise SchemaError(msg)
        if before == VERSION:
            return Migrated(before, VERSION, None)
        kept = backup(path, _free_name(path, before)).path if copy else None
        with closing(connect_writer(path, "FULL")) as raw:
            migrate(raw, SystemClock().now_us())
        return Migrated(before, VERSION, kept)
    except sqlite3.Error as error:
        msg = f"{path} can't be used: {describe(error)}"
        raise StoreUnavailable(msg) from error
    finally:
        lock.release()


def _free_name(path: Path, version: int) -> Path:
    names = [
        path.with_name(f"{path.name}.v{version}"),
        *(path.with_name(f"{path.name}.v{version}.{n}") for n in range(1, 100)),
    ]
    return next((name for name in names if not os.path.lexists(name)), names[0])


def copy_file(path: Path, target: Path, *, overwrite: bool = False) -> Backup:
    """Copy a database, in use or not: see App.backup. Raises InvalidArgs, StoreUnavailable, StoreFull, SchemaError."""
    prepare_file(path.resolve(), create=False)
    return backup(path, target, overwrite=overwrite)


def check_schema(steps: Sequence[SchemaStep]) -> None:
    """Apply an app's schema to an empty file that is thrown away. Raises SchemaError."""
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        connection = Connection(connect_writer(Path(folder) / "check.db", "OFF"))
        try:
            migrate(connection.raw, 0)
            apply_steps(connection.raw, connection.fence, steps, 0)
        finally:
            connection.raw.close()


# ------------------------------------------------------------------ what stands in it


def _version(path: Path) -> int:
    with closing(connect_reader(path)) as raw:
        return check_ours(raw)


def _check_version(path: Path) -> None:
    try:
        version = _version(path)
    except sqlite3.Error as error:
        msg = f"{path} can't be read: {describe(error)}"
        raise StoreUnavailable(msg) from error
    if version == 0:
        msg = f"{path} holds nothing of the scheduler: is it the right file?"
        raise SchemaError(msg)
    if version < VERSION:
        msg = (
            f"{path} has schema version {version}, this release works on {VERSION}: start its app, or run"
            f" actor-scheduler migrate {path}"
        )
        raise SchemaError(msg)


def _meta(raw: sqlite3.Connection, name: str) -> Any:
    row = raw.execute(_META, (name,)).fetchone()
    return None if row is None else row[0]


def _routing(path: Path) -> Routing:
    """Return where the app put jobs at its last start: a job that is steered here goes back to where it belongs.

    Of the limits only the pools' names are known.  Where nothing is on record, the app's next start sorts all jobs.
    """
    try:
        with closing(connect_reader(path)) as raw:
            written = _meta(raw, "routing") if check_ours(raw) == VERSION else None
    except sqlite3.Error as error:
        msg = f"{path} can't be read: {describe(error)}"
        raise StoreUnavailable(msg) from error
    try:
        bases, passes = ast.literal_eval(written) if isinstance(written, str) else ((), ())
        gates: dict[str, Limit] = {gate: UNDECLARED for _, through in passes for gate in through}
        return Routing(dict(bases), {str(base): tuple(through) for base, through in passes}, gates)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return PLAIN


def in_use(path: Path, advice: str = "go through it, with --url") -> str:
    """Return what an operator is told of a file that is in use."""
    owner = owner_of(path)
    who = f" (process {owner})" if owner else ""
    return f"{path} is open in a running app{who}: {advice}"
