"""What is wrong with a database file, and what to do about it; of a file that is closed, in use, damaged or missing.

Only reads.  A file that nobody uses is read as it lies there, without the side files SQLite would make; one that an app
uses is read in snapshots, as queries read it; what a killed process left is read through the log it left.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import struct
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import SchemaError
from actor_scheduler.limits import SECOND_US, WAL_BYTES_WARN
from actor_scheduler.store.sqlite.blame import NOBODY, noted
from actor_scheduler.store.sqlite.connection import SQLITE_MIN, has_wal_reset_bug, network_file_system
from actor_scheduler.store.sqlite.contents import examine
from actor_scheduler.store.sqlite.faults import describe
from actor_scheduler.store.sqlite.findings import Findings, Problem, shown_bytes
from actor_scheduler.store.sqlite.lock import Known, holder, last_known
from actor_scheduler.store.sqlite.schema import VERSION, check_ours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Access: TypeAlias = Literal["closed", "left", "live"]

FREE_WARN_BYTES: Final = 2 * WAL_BYTES_WARN  # room for the log at its largest, and for what it is written into
_WAL_HEADER: Final = struct.Struct(">8I")  # magic, version, page size, checkpoints, two salts, two checksums
_WAL_MAGIC: Final = 0x377F0682  # the last bit says in which byte order the checksums were made
_WAL_VERSION: Final = 3_007_000
_U32: Final = (1 << 32) - 1
_RESTORE_LOST: Final = "Restore it from a backup. To start with an empty one, remove the -lock file too."
_ON_PURPOSE: Final = (
    "If somebody restored it on purpose, all is well; else look for the newer one before you start the app."
)
_LIMIT_US: Final = 60 * SECOND_US
_PROGRESS_OPS: Final = 20_000
_QUERY: Final[dict[Access, str]] = {"closed": "&immutable=1", "left": "&readonly_shm=1", "live": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found: `problems`, the gravest first, and `facts` in words by name."""

    path: Path
    problems: Sequence[Problem]
    facts: Mapping[str, str]
    jobs: Mapping[str, int] = field(default_factory=dict)  # by state
    owner: int | None = None  # the process that owns the file; 0 when it can't be told which

    @property
    def ok(self) -> bool:
        """Whether there is nothing that stops an app from using the file."""
        return all(problem.severity != "error" for problem in self.problems)

    def render(self) -> str:
        """Return the report as plain text, without a character that a terminal would obey."""
        width = max((len(name) for name in self.facts), default=0)
        lines = [f"{name:<{width}}  {text}" for name, text in self.facts.items()]
        for problem in self.problems:
            lines.extend((f"{problem.severity.upper()}: {problem.what}", f"    {problem.do}"))
        if not self.problems:
            lines.append("No problems found.")
        return "\n".join(lines)


def doctor(path: Path, now_us: int, *, thorough: bool = False, limit_us: int = _LIMIT_US) -> Report:
    """Examine a database file and return what was found. Never raises for anything that stands in it.

    `thorough` also compares every index with its table, which takes several times as long.  What takes longer than
    `limit_us` is given up, and said.
    """
    try:
        place = Path(os.path.realpath(path))  # a symbolic link has its side files beside its target
    except (OSError, ValueError):
        place = Path(path)
    findings = Findings()
    findings.fact("file", str(place))
    _software(findings)
    owner = None
    if _is_there(findings, place):
        owner = _owner(findings, place)
        _beside(findings, place, owner)
        _around(findings, place)
        _contents(findings, place, now_us, owner, thorough=thorough, limit_us=limit_us)
    return Report(path=place, problems=findings.gravest_first(), facts=findings.facts, jobs=findings.jobs, owner=owner)


# ------------------------------------------------------------------ around the file


def _software(findings: Findings) -> None:
    findings.fact("SQLite", sqlite3.sqlite_version)
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        needed = ".".join(map(str, SQLITE_MIN[:2]))
        findings.error(f"SQLite {sqlite3.sqlite_version} is too old", f"Use a Python with SQLite {needed} or later.")
    elif has_wal_reset_bug():
        findings.note(
            f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug (fixed in 3.51.3, 3.50.7 and 3.44.6)",
            "Let no other program write the file; with one writer it can't strike.",
        )


def _is_there(findings: Findings, place: Path) -> bool:
    try:
        found = place.stat()
    except (OSError, ValueError) as error:
        if not isinstance(error, FileNotFoundError):
            findings.error(f"the file can't be looked at: {error}", "Look at the path, and at who may use its folders.")
        elif last_known(place) is not None:
            findings.error(f"the file is gone, and {_was_here(place)}", _RESTORE_LOST)
        else:
            findings.error("the file does not exist", "Look at the path; a start makes the file, unless create=False.")
        return False
    if not stat.S_ISREG(found.st_mode):
        findings.error("this is not a regular file", "Give the path of the database file itself.")
        return False
    findings.fact("size", shown_bytes(found.st_size))
    if found.st_nlink > 1:
        findings.error(
            "the file has a second name (a hard link): each name would get a log of its own",
            "Stop the app and remove the other name; an app refuses to start on it.",
        )
    return True


def _owner(findings: Findings, place: Path) -> int | None:
    try:
        owner = holder(place)
    except OSError as error:
        findings.warning(f"whether an app uses the file can't be told: {error.strerror}", "Look as the app's own user.")
        owner = 0
    if owner is None:
        findings.fact("owner", "nobody")
    elif owner == 0:
        findings.fact("owner", "a process that can't be told")
    else:
        findings.fact("owner", f"process {owner}{'' if _is_alive(owner) else ', of another host or container'}")
    return owner


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _beside(findings: Findings, place: Path, owner: int | None) -> None:
    """Judge the files beside it: which of them must be there depends on whether the file is in use."""
    wal, journal = _size(place, "-wal"), _size(place, "-journal")
    findings.fact("log", "none" if wal is None else shown_bytes(wal))
    if wal is not None and wal >= WAL_BYTES_WARN:
        findings.warning(
            f"the log is large: {shown_bytes(wal)}",
            "Something holds an old snapshot: look for a long query, a long backup, or a reader outside the app.",
        )
    if owner is not None:
        gone = [side for side in ("-wal", "-shm") if _size(place, side) is None]
        if gone:
            findings.error(
                f"files of the running app are gone: {', '.join(place.name + side for side in gone)}",
                "Somebody removed them: stop the app at once, keep what is there, and compare it with the last backup.",
            )
    elif wal and not _has_sound_log(place):
        findings.error(
            "the header of the log is damaged: SQLite takes the log as empty, and what only stands there is lost",
            "Keep the file and its log as they are, and look at the last backup before you start the app.",
        )
    elif wal:
        findings.note(
            "the last process did not close the file: it was killed, or the power went",
            "Start the app: it recovers by itself.",
        )
    if journal:
        findings.warning(
            f"{place.name}-journal is there: another program was writing the file when it ended",
            "Start the app, or open the file with SQLite's shell: it is rolled back then. Never remove the journal.",
        )
    if owner is None and (suspect := noted(place)) not in (None, NOBODY):
        findings.warning(
            f"the last process died while scheduled mutation number {suspect} was running",
            "Start the app: it runs again, and is failed when it kills the process three times. Look at its code.",
        )


def _size(place: Path, side: str) -> int | None:
    try:
        return place.with_name(place.name + side).stat().st_size
    except OSError:
        return None


def _has_sound_log(place: Path) -> bool:
    """Whether the log of a file that nobody uses begins as a log does; one without a whole header holds nothing."""
    try:
        # Not trap T3: SQLite's locks are on the database and on -shm, none is on the log.
        with place.with_name(place.name + "-wal").open("rb") as log:
            header = log.read(_WAL_HEADER.size)
    except OSError:
        return True  # gone, or not for us to read: SQLite will say
    if len(header) < _WAL_HEADER.size:
        return True
    magic, version = _WAL_HEADER.unpack(header)[:2]
    if magic & ~1 != _WAL_MAGIC or version != _WAL_VERSION:
        return False
    words = struct.unpack(">6I" if magic & 1 else "<6I", header[:24])
    one = two = 0
    for at in range(0, len(words), 2):
        one = (one + words[at] + two) & _U32
        two = (two + words[at + 1] + one) & _U32
    return (one, two) == _WAL_HEADER.unpack(header)[6:]


def _around(findings: Findings, place: Path) -> None:
    for path in (place, *(place.with_name(place.name + side) for side in ("-wal", "-shm"))):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & 0o077:
            findings.warning(
                f"{path.name} can be used by other users of this host (mode {mode:o})",
                f"chmod 600 {path.name}: arguments of jobs may be personal data.",
            )
    if (kind := network_file_system(place)) is not None:
        findings.warning(
            f"the file is on a {kind} file system: locks and flushes may not hold there",
            "Move it to a local disk.",
        )
    try:
        free, size = shutil.disk_usage(place.parent).free, place.stat().st_size
    except OSError:
        return
    findings.fact("free disk", shown_bytes(free))
    if free < FREE_WARN_BYTES:
        findings.warning(f"only {shown_bytes(free)} of disk are free", "Make room: a full disk refuses all work.")
    elif free < size:
        findings.note("a backup would not fit beside the file", "Put backups on another disk.")


# ------------------------------------------------------------------ inside it


def _contents(
    findings: Findings, place: Path, now_us: int, owner: int | None, *, thorough: bool, limit_us: int
) -> None:
    """Examine what stands in it; once more when an app took the file meanwhile, for then it was read while it moved."""
    for _ in range(2):
        access = _access(place, owner)
        if access is None:
            findings.warning(
                "the file has a log that only its next user can read, so what stands in it was not examined",
                "Start the app, which recovers it, and ask again.",
            )
            return
        inside = Findings()
        _read(inside, place, access, now_us, thorough=thorough, limit_us=limit_us)
        owner_now = owner if access != "closed" else _holder_or_none(place)
        if access != "closed" or (owner_now is None and _access(place, None) == "closed"):
            break
        owner = owner_now
    findings.add(inside)


def _holder_or_none(place: Path) -> int | None:
    try:
        return holder(place)
    except OSError:
        return None


def _access(place: Path, owner: int | None) -> Access | None:
    if owner is not None:
        return "live"
    if _size(place, "-journal"):
        return None
    if (_size(place, "-wal") or 0) < _WAL_HEADER.size or not _has_sound_log(place):
        return "closed"  # a start would also go without the log
    return "left" if _size(place, "-shm") else None


def _read(findings: Findings, place: Path, access: Access, now_us: int, *, thorough: bool, limit_us: int) -> None:
    try:
        with closing(
            sqlite3.connect(f"{place.as_uri()}?mode=ro{_QUERY[access]}", uri=True, isolation_level=None)
        ) as raw:
            deadline_us = monotonic_us() + limit_us
            raw.set_progress_handler(lambda: monotonic_us() > deadline_us, _PROGRESS_OPS)
            raw.text_factory = lambda text: text.decode("utf-8", "replace")
            for pragma in ("trusted_schema = OFF", "wal_autocheckpoint = 0", "mmap_size = 0"):
                raw.execute(f"PRAGMA {pragma}").fetchall()
            version = check_ours(raw)
            if version == 0 and last_known(place) is not None:
                findings.error(f"the file holds nothing, and {_was_here(place)}", _RESTORE_LOST)
                return
            if version == 0:
                findings.error(
                    "the file holds nothing of the scheduler",
                    "Is it the right file? An app adds its tables.",
                )
                return
            _schema_version(findings, version)
            examine(findings, raw, now_us, live=access == "live", thorough=thorough)
            if access != "live":  # a start that is under way writes one down before the other
                _compare(findings, last_known(place), raw)
    except SchemaError as error:
        findings.error(str(error), "Give the app the file that belongs to it, or the release that belongs to the file.")
    except (sqlite3.Error, OverflowError, ValueError) as error:
        said = describe(error) if isinstance(error, sqlite3.Error) else str(error)
        findings.error(
            f"the file can't be read: {said}", "Keep it and its log as they are, and restore the last backup."
        )


def _was_here(place: Path) -> str:
    known = last_known(place)
    return f"{place.name}-lock remembers a database here{f', started {known.epoch} times' if known else ''}"


def _compare(findings: Findings, known: Known | None, raw: sqlite3.Connection) -> None:
    """Compare the database with what its last owner has written down beside it."""
    meta = dict(raw.execute("SELECT name, value FROM main._scheduler_meta WHERE name IN ('db_uuid', 'boot_epoch')"))
    epoch = meta.get("boot_epoch")
    if known is None or not isinstance(epoch, int):
        return
    if meta.get("db_uuid") != known.uuid:
        findings.warning("this is another database than the one that was here at the last start", _ON_PURPOSE)
    elif epoch < known.epoch:
        findings.warning(
            f"the database is older than at its last start ({epoch} starts, {known.epoch} on record): an older copy "
            "was put in its place, or its -wal file was lost",
            _ON_PURPOSE,
        )


def _schema_version(findings: Findings, version: int) -> None:
    findings.fact("schema", f"version {version}")
    if version < VERSION:
        findings.note(
            f"the schema is of an earlier release (version {version}, this one writes {VERSION})",
            "A start brings it up to date. Make a backup first: an earlier release can't read it after that.",
        )
