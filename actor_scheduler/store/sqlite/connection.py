"""Opening the file: its mode, its settings, and the checks that it is still the file that was opened."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler import codec
from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import InvalidArgs, StoreUnavailable
from actor_scheduler.store.sqlite.fence import Fence, ours
from actor_scheduler.store.sqlite.lock import last_known
from actor_scheduler.store.sqlite.schema import check_ours, make_view

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("actor_scheduler")

SQLITE_MIN: Final = (3, 37, 0)  # STRICT tables
_WAL_RESET_FIXED: Final = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
_BUSY_MS: Final = 5_000  # another program's write transaction is waited for this long
_PROGRESS_OPS: Final = 20_000  # virtual machine steps between two looks at the time limit: ~1 ms
_SQL_BYTES_MAX: Final = 1 << 20
_VALUE_BYTES_MAX: Final = 256 << 20
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "virtiofs", "glusterfs", "ceph"}
)


class Connection:
    """One sqlite3 connection with its fence and its time limit."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.fence = Fence()
        self.deadline_us: int | None = None  # monotonic; a statement that passes it is interrupted
        raw.set_authorizer(self.fence)
        # On this connection's own thread: an interrupt from another thread could hit the next statement instead.
        raw.set_progress_handler(self._past_deadline, _PROGRESS_OPS)
        raw.create_function("msgpack_to_json", 1, _msgpack_to_json, deterministic=True)
        for limit, value in (
            (sqlite3.SQLITE_LIMIT_SQL_LENGTH, _SQL_BYTES_MAX),
            (sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES_MAX),
        ):
            raw.setlimit(limit, value)

    def _past_deadline(self) -> bool:
        return self.deadline_us is not None and monotonic_us() > self.deadline_us


def _msgpack_to_json(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        return json.dumps(codec.decode(data), ensure_ascii=False, default=_json_leaf)
    except (InvalidArgs, ValueError):
        return None  # damaged at rest: the row stays readable


def _json_leaf(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def connect_writer(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open the one connection that writes and checkpoints."""
    raw = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        timeout=_BUSY_MS / 1000,
    )
    try:
        check_ours(raw)  # before WAL mode is set: another program's file stays as it is
        mode = raw.execute(ours("PRAGMA journal_mode = WAL")).fetchone()[0]
        if mode != "wal":
            msg = (
                f"{path} can't be put into WAL mode (it is {mode}): the file system lacks shared memory or is read-only"
            )
            raise StoreUnavailable(msg)
        for pragma in (
            f"synchronous = {synchronous}", "foreign_keys = ON", "trusted_schema = OFF", "mmap_size = 0",
            "journal_size_limit = 67108864", "temp_store = MEMORY", "cache_size = -16384",
        ):  # fmt: skip
            raw.execute(ours(f"PRAGMA {pragma}"))
    except BaseException:
        raw.close()
        raise
    return raw


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that can't write, and never checkpoints (trap T5)."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    raw = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=_BUSY_MS / 1000,
    )
    for pragma in ("trusted_schema = OFF", "wal_autocheckpoint = 0", "mmap_size = 0", "temp_store = MEMORY"):
        raw.execute(ours(f"PRAGMA {pragma}"))
    return raw


def equip_reader(connection: Connection) -> None:
    """Give a reader its system view, then take every means of writing."""
    make_view(connection.raw)
    connection.raw.execute(ours("PRAGMA query_only = ON"))


def prepare_file(path: Path, *, create: bool) -> None:
    """Make the file, private to its owner, when it is not there; check that it can be used when it is.

    Raises StoreUnavailable, in one sentence, for a missing file with `create=False`, a missing folder, or a file that
    can't be written.  The file is never opened here once it exists: closing it would drop SQLite's locks (trap T3).
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        msg = f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or later is needed"
        raise StoreUnavailable(msg)
    if not path.parent.is_dir():
        msg = f"the folder {path.parent} of the database does not exist"
        raise StoreUnavailable(msg)
    try:
        found = path.stat()
        mode = found.st_mode
    except FileNotFoundError:
        _check_not_lost(path)
        if not create:
            msg = f"{path} does not exist, and the app was told not to create it (create=False)"
            raise StoreUnavailable(msg) from None
        _make_private(path)
    else:
        if not stat.S_ISREG(mode):
            msg = f"{path} is not a regular file"
            raise StoreUnavailable(msg)
        if found.st_size == 0:
            _check_not_lost(path)
    if path.stat().st_nlink > 1:
        msg = f"{path} has a second name (a hard link): each name would get a log of its own, and the file would break"
        raise StoreUnavailable(msg)
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        msg = f"{path} and its folder must be writable: SQLite keeps its -wal and -shm files beside it"
        raise StoreUnavailable(msg)


def _check_not_lost(path: Path) -> None:
    """Raise StoreUnavailable when there was a database here: starting with an empty one would be silent loss."""
    known = last_known(path)
    # Looked at again: another process may have made it, and written it down, between the two.
    if known is not None and not (path.exists() and path.stat().st_size):
        msg = (
            f"{path} is gone or empty, but it was started {known.epoch} time(s) before, as {path.name}-lock remembers: "
            f"restore it, or remove {path.name}-lock too to start with an empty one"
        )
        raise StoreUnavailable(msg)


def _make_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return  # another process made it a moment ago: the lock decides whose it is
    except OSError as error:
        msg = f"{path} can't be created: {error.strerror}"
        raise StoreUnavailable(msg) from error
    log.info("created database %s", path)


class FileIdentity:
    """Which file was opened. Replacing or deleting it under us would be silent otherwise (trap T4)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = path.stat()
        self._identity = (found.st_dev, found.st_ino)

    def check(self) -> None:
        """Raise StoreUnavailable when the path no longer leads to the file that was opened."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - called once a turn: half the cost of Path.stat
        except OSError as error:
            msg = f"{self._path} is gone ({error.strerror}): it was deleted or moved while the app was running"
            raise StoreUnavailable(msg) from error
        if (found.st_dev, found.st_ino) != self._identity:
            msg = f"{self._path} was replaced by another file while the app was running"
            raise StoreUnavailable(msg)


def advise(path: Path) -> None:
    """Log what an operator should know of this SQLite and this file system."""
    if has_wal_reset_bug():
        log.info(
            "SQLite %s has the WAL-reset bug (fixed in 3.51.3); one connection writes and checkpoints here, "
            "so it can only strike if another program writes the file",
            sqlite3.sqlite_version,
        )
    if (kind := network_file_system(path)) is not None:
        log.warning("%s is on a %s file system: locks and flushes may not hold there; use a local disk", path, kind)


def has_wal_reset_bug(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether a checkpoint of this SQLite can lose a commit of another connection that writes (trap T5)."""
    return version < _WAL_RESET_FIXED[0] and not any(
        version >= fixed and version[:2] == fixed[:2] for fixed in _WAL_RESET_FIXED
    )


def network_file_system(path: Path) -> str | None:
    """Return the type of the file system under a path if it is one of a network; None otherwise."""
    kind = _file_system(path)
    return kind if kind in _NETWORK else None


def _file_system(path: Path) -> str | None:
    """Return the type of the file system under a path, where the system tells."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:  # noqa: PTH123
            points = [line.split()[1:3] for line in mounts]
    except OSError:
        return None
    resolved = str(path.resolve())
    under = [(len(at), kind) for at, kind in points if resolved == at or resolved.startswith(at.rstrip("/") + "/")]
    return max(under, default=(0, None))[1]
