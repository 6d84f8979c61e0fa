"""The database file: whose it is, how it is opened, and what happens when it is not the file it was."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.errors import SchemaError, StoreUnavailable
from actor_scheduler.store.base import InsertJobs, Refused
from actor_scheduler.store.sqlite.schema import APPLICATION_ID, VERSION
from actor_scheduler.store.sqlite.thread import ThreadDb
from actor_scheduler.testing.bench import mutation


async def start(open_bench: Any, **options: Any) -> None:
    """Start and stop a store."""
    async with open_bench(**options):
        pass


def make_file(path: Path, *sql: str) -> None:
    """Make a database of another program."""
    other = sqlite3.connect(path)
    for statement in sql:
        other.execute(statement)
    other.commit()
    other.close()


# ------------------------------------------------------------------ opening


async def test_a_new_file_is_private_to_its_owner(open_bench: Any, db: Path) -> None:
    """The file, its log, its shared memory and its lock can be read by nobody else, whatever the umask is."""
    before = os.umask(0)
    try:
        async with open_bench() as bench:
            await bench.insert(mutation())
            assert await bench.count() == 1
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in db.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["app.db", "app.db-wal", "app.db-shm", "app.db-lock", "app.db-blame"], 0o600)


async def test_an_orderly_end_leaves_no_log_behind(open_bench: Any, db: Path) -> None:
    """After close the database is one file, and its header names us."""
    await start(open_bench)
    assert {path.name for path in db.parent.iterdir()} == {"app.db", "app.db-lock"}
    other = sqlite3.connect(db)
    assert other.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert other.execute("PRAGMA user_version").fetchone() == (VERSION,)
    other.close()


async def test_the_mode_of_a_file_that_is_there_is_left_alone(open_bench: Any, db: Path) -> None:
    """An operator's own mode is kept."""
    db.touch(0o640)
    db.chmod(0o640)
    await start(open_bench)
    assert stat.S_IMODE(db.stat().st_mode) == 0o640


async def test_D8_create_false_refuses_a_missing_file_and_makes_nothing(open_bench: Any, db: Path) -> None:
    """With create=False a missing file is an error that says so; a file that is there is opened."""
    with pytest.raises(StoreUnavailable, match=r"does not exist.*create=False"):
        await start(open_bench, create=False)
    assert list(db.parent.iterdir()) == []
    await start(open_bench)
    await start(open_bench, create=False)


@pytest.mark.parametrize("what", ["missing folder", "folder", "socket", "file as folder", "text", "cut header"])
async def test_what_can_t_be_a_database_is_refused_in_one_sentence(what: str, open_bench: Any, tmp_path: Path) -> None:
    """A missing folder, a folder, a special file and a file of another kind are named; nothing is changed."""
    path = tmp_path / "x.db"
    match what:
        case "missing folder":
            path = tmp_path / "missing" / "x.db"
        case "folder":
            path.mkdir()
        case "socket":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.close()
        case "file as folder":
            path.touch()
            path = path / "x.db"
        case "text":
            path.write_bytes(b"hello, world\n" * 100)
        case "cut header":
            path.write_bytes(b"SQLite format 3\0" + b"\xff" * 84)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreUnavailable) as refusal:
        await start(open_bench, path=path)
    assert str(path) in str(refusal.value) or str(path.parent) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    if before is not None:
        assert path.read_bytes() == before


@pytest.mark.parametrize("which", ["file", "folder"])
async def test_D7_a_file_that_can_t_be_written_is_refused(
    which: str, open_bench: Any, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only file or folder is refused at once: SQLite could open it, and fail at the first job."""
    await start(open_bench)
    shut = db if which == "file" else db.parent
    real = os.access  # asked, not tried: the superuser of a build container may write anything
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != shut and real(path, mode))
    with pytest.raises(StoreUnavailable, match="must be writable"):
        await start(open_bench)


# ------------------------------------------------------------------ whose file it is


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        (
            (f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION + 1}"),
            "upgrade actor-scheduler",
        ),
        (
            (f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 2147483647"),
            "schema version 2147483647",
        ),
        (("PRAGMA application_id = 7",), "belongs to another program"),
        (("PRAGMA application_id = 7", f"PRAGMA user_version = {VERSION}"), "belongs to another program"),
        (("PRAGMA user_version = 1",), "belongs to another program"),
        (("CREATE TABLE _scheduler_jobs (x)",), "not the scheduler's"),
        (("CREATE TABLE _SCHEDULED_things (x)",), "not the scheduler's"),
    ],
)
async def test_D10_the_file_of_another_program_or_release_is_refused(
    sql: Any, hint: str, open_bench: Any, db: Path
) -> None:
    """A newer release's file, another program's, and one with tables of our names are named as what they are."""
    make_file(db, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)", *sql)
    with pytest.raises(SchemaError, match=hint):
        await start(open_bench)
    other = sqlite3.connect(db)
    assert other.execute("SELECT x FROM theirs").fetchall() == [(1,)]
    assert other.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 1 + sum(
        "CREATE" in text for text in sql
    )
    other.close()


async def test_a_file_with_an_app_s_own_tables_is_adopted(open_bench: Any, db: Path) -> None:
    """An app that had an SQLite file before keeps its tables beside ours."""
    make_file(db, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")
    async with open_bench() as bench:
        await bench.insert(mutation())
        assert await bench.count() == 1
        rows = await bench.ask(lambda snapshot: snapshot.fetch_all("SELECT x FROM theirs", ()))
        assert [row["x"] for row in rows] == [1]


async def test_D9_each_database_has_an_identity_of_its_own_and_counts_its_boots(
    open_bench: Any, db: Path, tmp_path: Path
) -> None:
    """The uuid stays over restarts and differs between files; every start is a new boot."""
    seen = []
    for path in (db, db, tmp_path / "other.db"):
        await start(open_bench, path=path)
        other = sqlite3.connect(path)
        seen.append(dict(other.execute("SELECT name, value FROM _scheduler_meta").fetchall()))
        other.close()
    assert seen[0]["db_uuid"] == seen[1]["db_uuid"] != seen[2]["db_uuid"]
    assert [meta["boot_epoch"] for meta in seen] == [1, 2, 1]


async def test_a_refused_file_is_untouched(open_bench: Any, db: Path) -> None:
    """Not a byte of another program's file is changed by an app that was pointed at it by mistake."""
    make_file(db, "PRAGMA application_id = 7", "CREATE TABLE theirs (x)")
    before = db.read_bytes()
    with pytest.raises(SchemaError):
        await start(open_bench)
    assert db.read_bytes() == before


# ------------------------------------------------------------------ the file goes away (trap T4)


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced", "replaced by a copy"])
async def test_D11_a_file_that_is_not_the_one_that_was_opened_stops_the_store(
    how: str, open_bench: Any, db: Path
) -> None:
    """The next turn is definitely not done, says why, and the store stays broken until the file is back."""
    async with open_bench() as bench:
        await bench.insert(mutation())
        kept = db.with_name("kept.db")
        os.link(db, kept)
        match how:
            case "deleted":
                db.unlink()
            case "moved":
                db.rename(db.with_name("moved.db"))
            case "replaced":
                make_file(db.with_name("new.db"), "CREATE TABLE x (y)")
                db.with_name("new.db").replace(db)
            case "replaced by a copy":
                db.with_name("copy.db").write_bytes(b"")
                db.with_name("copy.db").replace(db)
        result = await bench.store.apply([InsertJobs([mutation()])], [])
        (reply,) = result.replies
        assert isinstance(reply, Refused)
        assert isinstance(reply.error, StoreUnavailable)
        assert result.broken is not None
        assert "while the app was running" in str(result.broken)
        with pytest.raises(StoreUnavailable, match="while the app was running"):
            await bench.store.reopen([])
        db.unlink(missing_ok=True)
        os.link(kept, db)
        await bench.store.reopen([])
        assert len(await bench.insert(mutation())) == 1
        assert await bench.count() == 2


async def test_a_start_that_fails_leaves_no_thread_that_would_answer_to_a_closed_loop() -> None:
    """Its connection tells its thread to stop, and does not wait: it must have ended when the failure is told."""

    def refuse() -> sqlite3.Connection:
        raise sqlite3.DatabaseError("no")

    for _ in range(20):
        db = ThreadDb(refuse)
        with pytest.raises(sqlite3.DatabaseError):
            await db.connect()
        assert not db._aio._thread.is_alive()
