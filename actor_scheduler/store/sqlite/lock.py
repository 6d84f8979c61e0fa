"""One process owns the file: an OS lock on a side file, released by the kernel however the owner ends."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import DatabaseLocked, StoreUnavailable
from actor_scheduler.limits import SECOND_US

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("actor_scheduler")

_POLL_SECONDS: Final = 0.05  # while waiting for a predecessor to end: only at boot, so this is not polling at rest
_held: Final[set[str]] = set()  # flock does not tell two owners in one process apart on every system


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Known(NamedTuple):
    """Which database a lock belongs to, and how often it was started."""

    uuid: str
    epoch: int


class OwnerLock:
    """The lock of one database file. Held from `acquire` to `release`, or to the end of the process."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.with_name(database.name + "-lock")
        self._fd: int | None = None
        self._pid = 0
        self.known: Known | None = None  # what the last owner has written down

    async def acquire(self, timeout_us: int) -> None:
        """Wait up to `timeout_us` for the lock.

        Raises DatabaseLocked, with the owner's process id, when it is still held then; StoreUnavailable when its file
        can't be made or written.
        """
        try:
            await self._acquire(monotonic_us() + timeout_us, timeout_us)
        except OSError as error:
            msg = f"{self._path}, the lock of the database, can't be used: {error.strerror}"
            raise StoreUnavailable(msg) from error

    async def _acquire(self, deadline_us: int, timeout_us: int) -> None:
        fd = self._open()
        try:
            while str(self._path) in _held or not _try_lock(fd) or not self._is_the_file(fd):
                if not self._is_the_file(fd):  # it was removed, or replaced, while it was waited for
                    os.close(fd)
                    fd = -1
                    fd = self._open()
                    continue
                if monotonic_us() >= deadline_us:
                    raise DatabaseLocked(self._refusal(fd, timeout_us))
                await asyncio.sleep(_POLL_SECONDS)
            self.known = _known(fd)
            self._fd, self._pid = fd, os.getpid()
            self._write()
        except BaseException:
            self._fd = None
            if fd >= 0:
                os.close(fd)
            raise
        _held.add(str(self._path))
        _live.append(self)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)

    def remember(self, database: Known) -> None:
        """Write down which database this is, and how often it was started: what the next start expects to find."""
        self.known = database
        try:
            self._write()
        except OSError as error:  # what it is good for is a warning at the next start
            log.warning("%s can't be written: %s", self._path, error.strerror)

    def _write(self) -> None:
        assert self._fd is not None
        text = f"{self._pid}\n" + (f"{self.known.uuid} {self.known.epoch}\n" if self.known is not None else "")
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, text.encode())
        os.ftruncate(self._fd, len(text))

    def _refusal(self, fd: int, timeout_us: int) -> str:
        owner = _lines(fd)[0] or "unknown"
        who = "another App of this process" if str(self._path) in _held else f"another process (pid {owner})"
        return (
            f"{self._database} is owned by {who} and was not released within "
            f"{timeout_us / SECOND_US:g} s: run one process per file (uvicorn --workers 1), or stop the other one"
        )

    def _is_the_file(self, fd: int) -> bool:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - called once a turn: half the cost of Path.stat
        except OSError:
            return False
        held = os.fstat(fd)
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def check_file(self) -> None:
        """Raise StoreUnavailable when the lock's file is gone: the next process would take the database as free."""
        if self._fd is not None and not self._is_the_file(self._fd):
            msg = f"{self._path} was removed or replaced: it is the lock of the running app. Restart the app"
            raise StoreUnavailable(msg)

    def check_process(self) -> None:
        """Raise StoreUnavailable in a forked child: the connection and the lock belong to the parent."""
        if self._pid != os.getpid():
            msg = "this process was forked from the one that owns the database: start the app after the fork"
            raise StoreUnavailable(msg)

    def release(self) -> None:
        """Give the lock up; harmless when it is not held. The side file stays: removing it would race a waiter."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            _held.discard(str(self._path))
            _live.remove(self)

    def _drop_in_child(self) -> None:
        # A child's copy of the descriptor would keep the lock alive after the owner died.
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def holder(database: Path) -> int | None:
    """Return the process that owns a database: 0 when it can't be told which, None when nobody does.

    Nothing is made or changed.  The lock is tried for an instant: an app that starts in that very instant with a lock
    timeout of 0 may be refused.
    """
    path = database.with_name(database.name + "-lock")
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    try:
        if str(path) not in _held and _try_lock(fd):
            return None
        written = _lines(fd)[0]
        return int(written) if written.isdigit() else 0
    finally:
        os.close(fd)


def last_known(database: Path) -> Known | None:
    """Return what the last owner of a database has written down beside it. Nothing is made or changed."""
    path = database.with_name(database.name + "-lock")
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        return _known(fd)
    finally:
        os.close(fd)


def _known(fd: int) -> Known | None:
    uuid, _, epoch = _lines(fd)[1].partition(" ")
    return Known(uuid, int(epoch)) if uuid and epoch.isdecimal() else None


def _lines(fd: int) -> list[str]:
    """Return the two lines of a lock's file: the owner's process id, and which database it is."""
    os.lseek(fd, 0, os.SEEK_SET)
    return [*os.read(fd, 256).decode("ascii", "replace").split("\n"), "", ""][:2]


_live: Final[list[OwnerLock]] = []


def _after_fork_in_child() -> None:
    for lock in _live:
        lock._drop_in_child()  # noqa: SLF001
    _live.clear()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
