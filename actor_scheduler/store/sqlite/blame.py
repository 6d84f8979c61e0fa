"""Which mutation was running when the process died: a few bytes in a mapped side file, without a flush.

A mutation has no `in_progress` row: its completion commits with its writes.  So that one which kills the process each
time can be told from its innocent neighbours, its number stands here while its body runs.  The kernel keeps a mapped
page when a process dies; a power cut may lose it, and then nobody is blamed.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("actor_scheduler")

_NUMBER: Final = struct.Struct("<q")
NOBODY: Final = 0


class BlameFile:
    """One number, readable by the next process."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + "-blame")
        self._map: mmap.mmap | None = None

    def open(self) -> int:
        """Map the file and return whom the last process left in it; NOBODY when it ended in peace.

        Where the file can't be used nobody is blamed, and the log says so: it is no reason not to start.
        """
        try:
            return self._open()
        except (OSError, ValueError) as error:
            log.warning("%s can't be used, so a mutation that kills the process can't be told: %s", self._path, error)
            return NOBODY

    def _open(self) -> int:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if os.fstat(fd).st_size < _NUMBER.size:
                os.ftruncate(fd, _NUMBER.size)
            self._map = mmap.mmap(fd, _NUMBER.size)
        finally:
            os.close(fd)
        found: int = _NUMBER.unpack_from(self._map)[0]
        return found if found > 0 else NOBODY

    def note(self, seq: int) -> None:
        """Name the mutation that runs now; NOBODY when none does."""
        if self._map is not None:
            _NUMBER.pack_into(self._map, 0, seq)

    def remove(self) -> None:
        """Take the file away: the process ends in peace, and nobody is to be blamed."""
        self.close()
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:  # it says NOBODY, so the next start blames nobody either
            log.warning("%s can't be removed: %s", self._path, error.strerror)

    def close(self) -> None:
        """Unmap the file; it stays, and says what it says."""
        if self._map is not None:
            self._map.close()
            self._map = None


def noted(database: Path) -> int | None:
    """Return whom the last process of a database left named, NOBODY, or None when there is no such file. Only reads."""
    try:
        left = database.with_name(database.name + "-blame").read_bytes()
    except OSError:
        return None
    found: int = _NUMBER.unpack_from(left)[0] if len(left) >= _NUMBER.size else NOBODY
    return found if found > 0 else NOBODY
