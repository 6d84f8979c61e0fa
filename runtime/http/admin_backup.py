"""A backup over HTTP: a whole, checked copy of the database, made beside it and gone from the disk once it is sent."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import tempfile
import threading
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import StreamingResponse

from runtime.http.answers import Problem
from runtime.http.asked import audited
from runtime.http.routes import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import BinaryIO

    from starlette.types import Message, Receive, Scope, Send

    from runtime.http.routes import Visit
    from runtime.http.served import Served

log = logging.getLogger("actor_scheduler")

CHUNK: Final = 1 << 20  # bytes read at once: ~1 ms of a thread
TAKE_SECONDS: Final = 30.0  # for a client to take a piece: one that takes nothing keeps nobody else from a backup
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_copied: Final[set[Path]] = set()  # the databases of which this process makes or sends a copy right now


async def back_up(visit: Visit) -> CopySent:
    """Answer a copy of the database as it stood at one moment during the request.

    One at a time: 429 while another is made or sent.  It needs as much room beside the database as the database takes.
    """
    served = visit.served
    db = served.db.resolve()
    with audited(visit, "backup", db.name) as outcome:
        if db in _copied:
            message = "a backup is being made or sent: one at a time"
            raise Problem(429, "BACKUP_RUNNING", message, headers={"Retry-After": "10"})
        _copied.add(db)
        try:
            copy = await _make(served, db)
        except BaseException:
            _copied.discard(db)
            raise
        outcome.result = f"{copy.size} bytes, sha256 {copy.digest}"
    return CopySent(copy, f"{db.stem}-{served.now():%Y%m%dT%H%M%SZ}{db.suffix}", lambda: _copied.discard(db))


async def _make(served: Served, db: Path) -> OpenCopy:
    """Return a whole copy, open and without a name: whatever ends this process also removes it."""
    prefix = f".{db.name}.sent-"
    folder = await asyncio.to_thread(_make_folder, db.parent, prefix)
    try:
        await served.backup(folder / "copy.db")
        return await asyncio.to_thread(OpenCopy, folder / "copy.db")
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def _make_folder(place: Path, prefix: str) -> Path:
    """Return a new folder, private to its owner; one that a killed process has left is removed."""
    for left in place.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=place))


class OpenCopy:
    """An open file: its size, its digest, and its content piece by piece. Closed and read by any thread."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb", buffering=0)
        self._lock = threading.Lock()  # so that no file is closed while it is read
        digest = sha256()
        self.size = 0
        while piece := self._file.read(CHUNK):
            digest.update(piece)
            self.size += len(piece)
        self._file.seek(0)
        self.digest = digest.hexdigest()

    def read(self) -> bytes:
        """Return the next piece; nothing at the end, and once it is closed."""
        with self._lock:
            return b"" if self._file.closed else self._file.read(CHUNK)

    def close(self) -> None:
        """Let go of the file, which ends it."""
        with self._lock:
            self._file.close()


class _NotTakenError(Exception):
    """The client takes nothing."""


class CopySent(StreamingResponse):
    """A copy on its way. Whether it arrives or not, nothing is left of it afterwards."""

    def __init__(self, copy: OpenCopy, name: str, done: Callable[[], Any]) -> None:
        self._copy = copy
        self._done = done
        headers = {
            "Content-Length": str(copy.size),
            "Content-Disposition": f'attachment; filename="{_UNSAFE.sub("_", name)}"',
            "X-Content-Sha256": copy.digest,
        }
        super().__init__(_pieces(copy), headers=headers, media_type="application/octet-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; give up when a piece is not taken."""

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(TAKE_SECONDS):
                    await send(message)
            except TimeoutError as error:
                raise _NotTakenError from error

        try:
            await super().__call__(scope, receive, send_in_time)
        except _NotTakenError:
            log.warning("a backup was given up: its client took nothing for %g s", TAKE_SECONDS)
        finally:
            self._copy.close()
            self._done()


async def _pieces(copy: OpenCopy) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(copy.read):
        yield piece


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST", path="/admin/backup", door="operate", handler=back_up, summary="Copy the database",
        answers={
            200: "application/octet-stream: a whole, checked copy; X-Content-Sha256 is its digest",
            429: "another one is being made or sent",
        },
    ),
)  # fmt: skip
