"""Copying the database while it is in use: one snapshot, checked, and under its name only when it is whole.

The copy is made by SQLite's backup interface from a read-only connection that holds one read transaction to its end.
Without that transaction every commit of the app would make the copy start again from its first page, for ever under
steady writes; with it each step reads the same snapshot.  While it is held the app's log can't be reset: it grows by
what is written meanwhile.  Nothing here opens the database other than through SQLite (trap T3).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import stat
import tempfile
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import InvalidArgs, SchemaError, StoreFull, StoreUnavailable
from actor_scheduler.limits import SECOND_US
from actor_scheduler.store.sqlite.connection import connect_reader
from actor_scheduler.store.sqlite.faults import code_of, describe
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.lock import holder
from actor_scheduler.store.sqlite.schema import check_ours

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_PAGES: Final = 256  # copied between two looks at whether to stop: a megabyte, ~1 ms
_CHECK_OPS: Final = 100_000  # virtual machine steps between the same looks while the copy is checked
_SIDE_FILES: Final = ("-wal", "-shm", "-journal", "-lock", "-blame")
_LOGS: Final = ("-wal", "-journal")
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished copy: where it is, and what it holds."""

    path: Path
    size: int  # bytes
    pages: int
    jobs: int
    seconds: float


class _Stopped(Exception):
    """Whoever asked for the copy does not want it any more."""


def backup(
    source: Path,
    target: Path,
    *,
    overwrite: bool = False,
    stop: Callable[[], bool] = lambda: False,
    step_pages: int = STEP_PAGES,
) -> Backup:
    """Copy a database, in use or not, to `target`, a file private to its owner, and return what was copied.

    The copy is the database as it stood at one moment during the call: every call acknowledged before it began is in
    it, and no mutation is in it by half.  `target` appears under its name when it is whole, checked and on disk; until
    then, and after any error, it is what it was before.  A file that is there is replaced only with `overwrite`, and
    never while an app has it open.  `stop` is asked about every millisecond.

    Raises InvalidArgs for a target that can't be one, SchemaError for a source that is not the scheduler's, StoreFull
    when the target's disk is full, StoreUnavailable when anything else failed or `stop` said so.
    """
    began_us = monotonic_us()
    source = source.resolve()
    _check_target(source, target, overwrite=overwrite)
    part = None
    try:
        part = _part_of(target)
        _copy(source, part, stop, step_pages)
        pages, jobs = _check_copy(part, stop)
        _flush(part)
        size = part.stat().st_size
        _check_target(source, target, overwrite=overwrite)  # it may have been made meanwhile
        part.replace(target)
        _flush(target.parent)
    except _Stopped:
        msg = f"the copy to {target} was stopped; nothing was written"
        raise StoreUnavailable(msg) from None
    except sqlite3.Error as error:
        full = code_of(error) == sqlite3.SQLITE_FULL
        msg = f"{source} was not copied to {target}: {describe(error)}"
        raise (StoreFull if full else StoreUnavailable)(msg) from error
    except OSError as error:
        full = error.errno in _NO_SPACE
        msg = f"{source} was not copied to {target}: {error.strerror or error}"
        raise (StoreFull if full else StoreUnavailable)(msg) from error
    finally:
        if part is not None:
            _remove(part)
    return Backup(target, size, pages, jobs, (monotonic_us() - began_us) / SECOND_US)


async def backup_aside(source: Path, target: Path, *, overwrite: bool = False) -> Backup:
    """Do the same on a thread of its own, so that the event loop goes on.

    Cancelling it stops the copy, and returns once nothing of it is left; a copy that was whole by then stays.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Backup] = loop.create_future()
    stop = threading.Event()

    def settle(made: Backup | None, error: BaseException | None) -> None:
        if done.done():
            return
        if made is not None:
            done.set_result(made)
        else:
            done.set_exception(error if error is not None else RuntimeError("no copy, and no reason"))

    def work() -> None:
        made, failed = None, None
        try:
            made = backup(source, target, overwrite=overwrite, stop=stop.is_set)
        except BaseException as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(settle, made, failed)

    # A daemon: a disk that never answers must not keep the process from ending.
    threading.Thread(target=work, name="actor-scheduler-backup", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        stop.set()
        done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # it is nobody's any more
        await asyncio.wait([done])
        raise


# ------------------------------------------------------------------ the target


def _check_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Raise InvalidArgs when the target is a part of the source, in use, or there without `overwrite`."""
    if not target.parent.is_dir():
        msg = f"the folder {target.parent} of the copy does not exist"
        raise InvalidArgs(msg)
    place = target.parent.resolve() / target.name
    theirs = [source, *(source.with_name(source.name + side) for side in _SIDE_FILES)]
    if place in theirs or any(_same(target, path) for path in theirs):
        msg = f"{target} is the database itself, or one of the files beside it: give the copy a name of its own"
        raise InvalidArgs(msg)
    for side in _LOGS:
        log = place.with_name(place.name + side)
        if os.path.lexists(log):  # SQLite would take it for the new file's own, and write it over the copy
            msg = f"{log} is there: {target.name} is in use, or was not closed. Move both away, or use another name"
            raise InvalidArgs(msg)
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if not overwrite:
        msg = f"{target} is there already; overwrite=True replaces it"
        raise InvalidArgs(msg)
    if not stat.S_ISREG(mode):
        msg = f"{target} is not a regular file, and is not replaced"
        raise InvalidArgs(msg)
    if holder(place) is not None:
        msg = f"{target} is the database of a running app, and is not replaced"
        raise InvalidArgs(msg)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _part_of(target: Path) -> Path:
    """Make the file that becomes the target, private to its owner, beside it: a rename does not cross disks."""
    fd, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(fd)
    return Path(name)


def _remove(part: Path) -> None:
    for path in (part, *(part.with_name(part.name + side) for side in _SIDE_FILES)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have a file, or the names in a folder, on disk."""
    if path.is_dir() and os.name == "nt":
        return  # a folder can't be opened there
    fd = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# ------------------------------------------------------------------ the copy


def _copy(source: Path, part: Path, stop: Callable[[], bool], step_pages: int) -> None:
    def look(_status: int, _remaining: int, _total: int) -> None:
        if stop():
            raise _Stopped

    with closing(connect_reader(source)) as reader, closing(_connect_part(part)) as copy:
        reader.execute(ours("BEGIN"))  # no snapshot yet: the first read takes it
        if check_ours(reader) == 0:
            msg = f"{source} holds nothing of the scheduler: is it the right file?"
            raise SchemaError(msg)
        if stop():
            raise _Stopped
        reader.backup(copy, pages=step_pages, progress=look)
        reader.execute(ours("ROLLBACK"))


def _connect_part(part: Path) -> sqlite3.Connection:
    copy = sqlite3.connect(part, isolation_level=None)
    # Whatever ends the copy before it is whole also removes it, and it is flushed as one piece at the end.
    copy.execute("PRAGMA journal_mode = OFF").fetchall()
    copy.execute("PRAGMA synchronous = OFF")
    return copy


def _check_copy(part: Path, stop: Callable[[], bool]) -> tuple[int, int]:
    """Return a copy's pages and jobs. Raises StoreUnavailable when it is damaged: so is its source, then."""
    # Immutable: nobody else knows it, and no log is made beside it.
    with closing(sqlite3.connect(f"{part.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
        copy.set_progress_handler(stop, _CHECK_OPS)
        try:
            check_ours(copy)
            found = [text for (text,) in copy.execute("PRAGMA quick_check(1)")]
            pages = copy.execute("PRAGMA page_count").fetchone()[0]
            jobs = copy.execute("SELECT count(*) FROM main._scheduler_jobs").fetchone()[0]
        except sqlite3.Error as error:
            if code_of(error) == sqlite3.SQLITE_INTERRUPT:
                raise _Stopped from None
            raise
    if found != ["ok"]:
        msg = f"the database is damaged, and so would be its copy, which was not kept: {found[0]}"
        raise StoreUnavailable(msg)
    return pages, jobs
