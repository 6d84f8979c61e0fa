"""G17, K16, T3: a copy of a file in use is one moment of it, whole, or is not there at all."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from actor_scheduler.errors import InvalidArgs, SchemaError, StoreFull, StoreUnavailable
from actor_scheduler.store.sqlite import backup as module
from actor_scheduler.store.sqlite.backup import backup, backup_aside
from actor_scheduler.store.sqlite.schema import APPLICATION_ID, VERSION
from tests.maintenance.files import content, copy_of, run
from tests.maintenance.load import Load, check_prefix, check_whole, finish, look, make_app

ROOT: Final = Path(__file__).parents[2]
LONG: Final = bool(os.environ.get("LONG"))
COPIES: Final = 100 if LONG else 10
KILLS: Final = 60 if LONG else 8


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A database that nobody uses, in a folder of its own."""
    folder = tmp_path / "app"
    folder.mkdir()
    return copy_of(1, folder / "app.db")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the copy goes: a folder in which nothing else is."""
    folder = tmp_path / "copies"
    folder.mkdir()
    return folder / "copy.db"


def names(folder: Path) -> set[str]:
    """Return what is in a folder, hidden files too."""
    return {entry.name for entry in folder.iterdir()}


# ------------------------------------------------------------------ a copy


def test_a_copy_holds_what_the_file_holds(source: Path, target: Path) -> None:
    """Every table, row and index; private to its owner; one file, with nothing left beside it."""
    before = os.umask(0)
    try:
        made = backup(source, target)
    finally:
        os.umask(before)
    assert content(target) == content(source)
    assert names(target.parent) == {"copy.db"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert (made.path, made.size, made.pages) == (target, target.stat().st_size, source.stat().st_size // 4096)
    assert made.jobs == len(content(source).rows["_scheduler_jobs"])
    assert made.seconds >= 0


def test_commits_meanwhile_are_not_in_it_and_do_not_make_it_start_again(source: Path, target: Path) -> None:
    """With a commit between any two pages, each page is copied once, and the copy is the moment it began at."""
    before, commits = content(source), 0
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL").fetchall()

        def commit() -> bool:
            nonlocal commits
            commits += 1
            writer.execute("INSERT INTO notes (text) VALUES (zeroblob(3000) || ?)", (commits,))
            writer.execute("UPDATE _scheduler_jobs SET attempt = attempt + 1")
            return False

        made = backup(source, target, stop=commit, step_pages=1)
    assert made.pages <= commits <= made.pages + 5
    assert content(target) == before
    assert content(source) != before


def test_what_stands_in_the_log_only_is_copied_too(source: Path, target: Path) -> None:
    """An app that has not checkpointed for a while has its newest commits beside the file."""
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("INSERT INTO notes (text) VALUES ('only in the log')")
        backup(source, target)
    assert b"only in the log" in {row[1] for row in content(target).rows["notes"]}


def test_an_existing_copy_is_replaced_only_when_told_to(source: Path, target: Path) -> None:
    """Without overwrite it stays, byte by byte; with it, it is the new copy."""
    backup(source, target)
    first = target.read_bytes()
    run(source, "INSERT INTO notes (text) VALUES ('later')")
    with pytest.raises(InvalidArgs, match="overwrite=True"):
        backup(source, target)
    assert target.read_bytes() == first
    backup(source, target, overwrite=True)
    assert content(target) == content(source)
    assert names(target.parent) == {"copy.db"}


# ------------------------------------------------------------------ under load


async def test_G17_copies_under_load_are_prefixes_of_the_acknowledged_history(tmp_path: Path) -> None:
    """Every copy holds all that was acknowledged before it began, nothing by half, and starts as an app."""
    path = tmp_path / "app.db"
    taken: list[tuple[Path, dict[str, int], list[str]]] = []
    meanwhile = 0
    async with make_app(path) as app:
        busy = Load(app)
        await busy.start()
        for number in range(COPIES):
            await busy.passes(2)
            acked, ids = dict(busy.acked), list(busy.ids)
            made = await backup_aside(path, tmp_path / f"copy-{number}.db")
            meanwhile += busy.acked != acked
            taken.append((made.path, acked, ids))
        await busy.stop()
        await finish(app)
    final = look(path)
    check_whole(final)
    assert meanwhile, "nothing was acknowledged while a copy was made"
    for copy, acked, ids in taken:
        check_prefix(look(copy), final, acked, ids)
    for copy, *_ in taken[:: max(COPIES // 10, 1)]:
        await _restore(copy)


async def _restore(copy: Path) -> None:
    """A copy starts as an app does after a crash: what ran is interrupted, what waited runs."""
    before = look(copy)
    async with make_app(copy) as app:
        await finish(app)
        running = [job_id for job_id, (_, state, _) in before.jobs.items() if state == "in_progress"]
        assert running
        for job_id in running:
            job = await app.scheduler.get(job_id)
            assert job is not None
            assert (job.state, job.cause) == ("failed", "interrupted")
    after = look(copy)
    check_whole(after)
    assert {state for _, state, _ in after.jobs.values()} == {"success", "failed"}
    for job_id, (path, state, _) in before.jobs.items():
        if state not in ("pending", "in_progress"):
            assert after.jobs[job_id][:2] == (path, state)


async def test_K16_a_process_killed_while_it_copies_leaves_its_file_and_every_copy_whole(tmp_path: Path) -> None:
    """Real processes under load, killed at random: the file is whole, and a copy is whole or is not there."""
    rng = random.Random(17)
    copies, cut_short = 0, 0
    for life in range(KILLS):
        command = [sys.executable, "-m", "tests.maintenance.load", str(tmp_path), f"{life}-"]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stderr is not None
        with child.stdout, child.stderr:
            for _ in range(rng.randint(1, 120)):
                if not child.stdout.readline():
                    pytest.fail(child.stderr.read().decode())
            child.send_signal(signal.SIGKILL)
            child.wait()
        cut_short += any(name.endswith(".part") for name in names(tmp_path))
        for part in tmp_path.glob(".*"):
            part.unlink()
        check_whole(look(tmp_path / "app.db"))
        for number in range(2):
            copy = tmp_path / f"copy-{number}.db"
            if copy.exists():
                copies += 1
                check_whole(look(copy))
    assert copies
    assert cut_short, "no copy was under way at any kill"
    backup(tmp_path / "app.db", tmp_path / "last.db")
    check_whole(look(tmp_path / "last.db"))


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "what", ["itself", "hard link", "symbolic link", "-wal", "-shm", "-lock", "-blame", "relative"]
)
def test_the_database_itself_is_never_the_target(
    what: str, overwrite: bool, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever name, and with overwrite too: not a byte is changed."""
    monkeypatch.chdir(source.parent)
    target = source.with_name(source.name + what) if what.startswith("-") else source.with_name("other.db")
    match what:
        case "itself":
            target = source
        case "relative":
            target = Path("../app/app.db")
        case "hard link":
            os.link(source, target)
        case "symbolic link":
            target.symlink_to(source)
    before, there = source.read_bytes(), names(source.parent)
    with pytest.raises(InvalidArgs, match="the database itself"):
        backup(source, target, overwrite=overwrite)
    assert source.read_bytes() == before
    assert names(source.parent) == there


def test_a_database_under_another_name_is_still_the_database(source: Path, target: Path) -> None:
    """The files beside it are those of what a symbolic link leads to."""
    link = target.with_name("link.db")
    link.symlink_to(source)
    with pytest.raises(InvalidArgs, match="one of the files beside it"):
        backup(link, source.with_name("app.db-wal"))
    assert content(backup(link, target).path) == content(source)


@pytest.mark.parametrize("what", ["no folder", "folder", "log of its own", "symbolic link", "pipe"])
def test_a_target_that_can_t_be_one_is_refused(what: str, source: Path, target: Path) -> None:
    """Also with overwrite, and nothing is changed. A log beside it would be written over the copy by SQLite."""
    match what:
        case "no folder":
            target = target.parent / "missing" / "copy.db"
        case "folder":
            target.mkdir()
        case "log of its own":
            target.with_name("copy.db-wal").write_bytes(b"x")
        case "symbolic link":
            target.symlink_to(target.with_name("elsewhere"))
        case "pipe":
            os.mkfifo(target)
    there = names(target.parent) if target.parent.is_dir() else set()
    with pytest.raises(InvalidArgs) as refusal:
        backup(source, target, overwrite=True)
    assert "\n" not in str(refusal.value)
    assert (names(target.parent) if target.parent.is_dir() else set()) == there


async def test_the_file_of_a_running_app_is_never_replaced(source: Path, target: Path) -> None:
    """Another app's database is no target, even when its log happens to be empty."""
    async with make_app(target):
        before = target.stat().st_ino
        for log in ("-wal", "-shm"):
            target.with_name(target.name + log).unlink()
        with pytest.raises(InvalidArgs, match="a running app"):
            backup(source, target, overwrite=True)
        assert target.stat().st_ino == before


@pytest.mark.parametrize("what", ["missing", "text", "empty", "foreign", "newer"])
def test_a_source_that_is_not_the_scheduler_s_is_refused(what: str, source: Path, target: Path) -> None:
    """Nothing is copied under a name that says it is a backup of this."""
    match what:
        case "missing":
            source.unlink()
        case "text":
            source.write_bytes(b"hello, world\n" * 1000)
        case "empty":
            source.write_bytes(b"")
        case "foreign":
            source.unlink()
            run(source, "PRAGMA application_id = 7", "CREATE TABLE theirs (x)")
        case "newer":
            run(source, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StoreUnavailable if what in ("missing", "text") else SchemaError) as refusal:
        backup(source, target)
    assert str(source) in str(refusal.value) or "the file" in str(refusal.value)
    assert names(target.parent) == set()
    assert source.exists() == (what != "missing")


@pytest.mark.parametrize("how", ["a page", "a value"])
def test_a_damaged_database_is_not_copied(how: str, source: Path, target: Path) -> None:
    """A copy that could not be restored is worse than none: the old one stays, and the call says why."""
    backup(source, target)
    good = target.read_bytes()
    if how == "a page":
        pages = source.read_bytes()
        source.write_bytes(pages[:8192] + b"\xff" * 4096 + pages[12288:])
    else:  # every page can be read, and a text stands where a number must
        sql = "UPDATE sqlite_schema SET sql = replace(sql, 'text TEXT', 'text INTEGER') WHERE name = 'notes'"
        run(source, "PRAGMA writable_schema = ON", sql)
    with pytest.raises(StoreUnavailable, match="malformed" if how == "a page" else "non-INTEGER value in notes.text"):
        backup(source, target, overwrite=True)
    assert target.read_bytes() == good
    assert names(target.parent) == {"copy.db"}


# ------------------------------------------------------------------ when it does not come to its end


@pytest.mark.parametrize("when", range(1, 14, 3))
def test_a_copy_that_is_stopped_leaves_nothing(when: int, source: Path, target: Path) -> None:
    """At any page: no target, no half of one, and the source can be used at once."""
    looks = iter(range(1, when))
    with pytest.raises(StoreUnavailable, match="was stopped"):
        backup(source, target, stop=lambda: next(looks, None) is None, step_pages=1)
    assert names(target.parent) == set()
    run(source, "INSERT INTO notes (text) VALUES ('goes on')")


def test_a_copy_that_is_stopped_while_it_is_checked_leaves_nothing(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of a large copy takes longer than the copying, and ends as soon."""
    copied, real = threading.Event(), module._copy

    def copy(*args: Any) -> None:
        real(*args)
        copied.set()

    monkeypatch.setattr(module, "_copy", copy)
    monkeypatch.setattr(module, "_CHECK_OPS", 1)
    with pytest.raises(StoreUnavailable, match="was stopped"):
        backup(source, target, stop=copied.is_set)
    assert names(target.parent) == set()


def test_a_target_that_somebody_makes_meanwhile_is_kept(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there when the copy began; it is not replaced when it ends."""
    real = module._check_copy

    def check(*args: Any) -> tuple[int, int]:
        target.write_bytes(b"theirs")
        return real(*args)

    monkeypatch.setattr(module, "_check_copy", check)
    with pytest.raises(InvalidArgs, match="overwrite=True"):
        backup(source, target)
    assert target.read_bytes() == b"theirs"
    assert names(target.parent) == {"copy.db"}


async def test_a_canceled_copy_leaves_nothing_and_never_holds_the_loop(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the copy's thread stands still the app goes on; the cancel ends when nothing is left of the copy."""
    loop, reached = asyncio.get_running_loop(), asyncio.Event()

    def stands(_part: Path, stop: Any) -> tuple[int, int]:
        loop.call_soon_threadsafe(reached.set)
        pulse = threading.Event()
        for _ in range(20_000):
            if stop():
                raise module._Stopped
            pulse.wait(0.001)
        raise AssertionError("nobody stopped the copy")

    path = tmp_path / "app.db"
    async with make_app(path) as app:
        busy = Load(app)
        await busy.start()
        await busy.passes(1)
        monkeypatch.setattr(module, "_check_copy", stands)
        copying = asyncio.create_task(backup_aside(path, target))
        await reached.wait()
        assert len(names(target.parent)) == 1
        await busy.passes(5)
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        assert names(target.parent) == set()
        monkeypatch.undo()
        assert (await backup_aside(path, target)).jobs
        await busy.stop()


async def test_the_thread_s_error_is_the_caller_s(source: Path, target: Path) -> None:
    """What the copy raises comes out of the await, and nothing stays behind."""
    target.touch()
    with pytest.raises(InvalidArgs, match="overwrite=True"):
        await backup_aside(source, target)
    assert not [thread for thread in threading.enumerate() if thread.name == "actor-scheduler-backup" and thread.is_alive()
                and not thread.daemon]  # fmt: skip


def test_a_full_database_of_a_copy_leaves_the_old_one(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLITE_FULL while pages are written: definitely no copy, said as such."""
    backup(source, target)
    good = target.read_bytes()
    real = module._connect_part

    def small(part: Path) -> sqlite3.Connection:
        copy = real(part)
        copy.execute("PRAGMA max_page_count = 3").fetchall()
        return copy

    monkeypatch.setattr(module, "_connect_part", small)
    with pytest.raises(StoreFull):
        backup(source, target, overwrite=True)
    assert target.read_bytes() == good
    assert names(target.parent) == {"copy.db"}


@pytest.mark.parametrize(("number", "error"), [
    (errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EIO, StoreUnavailable),
])  # fmt: skip
def test_a_copy_that_can_t_be_flushed_is_not_kept(
    number: int, error: type[Exception], source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not known to be on disk is no backup."""

    def fsync(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(error, match=os.strerror(number)):
        backup(source, target)
    assert names(target.parent) == set()


def test_a_copy_is_flushed_before_it_gets_its_name_and_its_name_after(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that a power cut can't break: the file, its name, the folder."""
    seen: list[tuple[str, set[str]]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        seen.append((kind, {name for name in names(target.parent) if not name.startswith(".")}))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    backup(source, target)
    assert seen == [("file", set()), ("folder", {"copy.db"})]


LIMITED = """
import resource, sys
from pathlib import Path
from actor_scheduler.errors import StoreUnavailable
from actor_scheduler.store.sqlite.backup import backup
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    backup(Path(sys.argv[1]), Path(sys.argv[2]))
except StoreUnavailable as error:
    print(type(error).__name__)
"""


def test_a_write_that_the_system_refuses_leaves_nothing(source: Path, target: Path) -> None:
    """A real refusal, from the kernel, in the middle of the copy."""
    run(source, "PRAGMA journal_mode = DELETE")  # the reader's own shared memory would pass the limit first
    command = [sys.executable, "-c", LIMITED, str(source), str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() in ("StoreUnavailable", "StoreFull"), done.stderr
    assert names(target.parent) == set()


WATCHED = """
import os, sys
from pathlib import Path
opened = []

def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        opened.append(os.path.basename(os.fsdecode(args[0])))

from actor_scheduler.store.sqlite.backup import backup
sys.addaudithook(hook)
backup(Path(sys.argv[1]), Path(sys.argv[2]))
print(*opened)
"""


def test_T3_nothing_but_sqlite_opens_the_database(source: Path, target: Path) -> None:
    """Closing a descriptor of it would drop the locks of the app in the same process."""
    command = [sys.executable, "-c", WATCHED, str(source), str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    opened = done.stdout.split()
    assert any(name.endswith(".part") for name in opened), "the hook sees what is opened"
    assert not [name for name in opened if name.startswith("app.db") and name != "app.db-lock"]
