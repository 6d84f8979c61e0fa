"""D5, D7, D9, D10, D14, D15: what the doctor says of a file, and that it only ever looks."""

from __future__ import annotations

import ast
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actor_scheduler.limits import WAL_BYTES_WARN
from actor_scheduler.store.sqlite import connection, contents
from actor_scheduler.store.sqlite import doctor as module
from actor_scheduler.store.sqlite.connection import has_wal_reset_bug
from actor_scheduler.store.sqlite.doctor import Report, doctor
from actor_scheduler.store.sqlite.findings import Findings, shown_span
from actor_scheduler.store.sqlite.schema import APPLICATION_ID, TABLES, VERSION
from runtime.cli.main import cli
from tests.faults.rig import Rig
from tests.fixtures.make import LEFT_US, SCHEMA, second_release, shop
from tests.maintenance.files import KEPT, copy_of, run

ROOT: Final = Path(__file__).parents[2]
DAMAGED: Final = 2_000 if os.environ.get("LONG") else 200
DAY_US: Final = 86_400_000_000
NOW_US: Final = LEFT_US + DAY_US // 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database file: empty until a test makes it one."""
    return tmp_path / "app.db"


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room: no report depends on the machine the tests run on."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))


def of(report: Report, severity: str) -> list[str]:
    """Return what a report says at one severity."""
    return [problem.what for problem in report.problems if problem.severity == severity]


def says(report: Report, severity: str, *parts: str) -> None:
    """Require a problem of this severity whose text has these parts."""
    assert any(all(part in what for part in parts) for what in of(report, severity)), report.render()


def folder_of(path: Path, *, in_use: bool) -> dict[str, tuple[Any, ...]]:
    """Return everything that could change in a folder; a database in use is not opened for it."""
    entries = {entry: entry.lstat() for entry in path.parent.iterdir()}
    return {
        entry.name: (
            at.st_ino, at.st_mode, at.st_uid, at.st_nlink, at.st_size, at.st_mtime_ns,
            entry.read_bytes() if not in_use and stat.S_ISREG(at.st_mode) else None,
        )
        for entry, at in entries.items()
    }  # fmt: skip


@contextmanager
def only_looked(path: Path, *, in_use: bool = False) -> Iterator[None]:
    """Require that nothing in the folder is made, changed or removed."""
    before = folder_of(path, in_use=in_use)
    yield
    assert folder_of(path, in_use=in_use) == before


def current(path: Path) -> Rig:
    """Return an app whose file is new."""
    rig = Rig(path, shop(), second_release(), max_running_actions=2)
    rig.app.schema(SCHEMA)
    return rig


# ------------------------------------------------------------------ files in use, closed, and left


async def test_a_closed_file_of_today_has_no_problems(path: Path) -> None:
    """An app that ended in peace leaves nothing to say, and the doctor nothing behind."""
    async with current(path) as rig:
        await rig.call("shop:note", text="x")
        await rig.stop()
    with only_looked(path):
        report = doctor(path, NOW_US)
    assert report.ok
    assert of(report, "error") == []
    assert of(report, "warning") == []
    assert report.owner is None
    assert report.facts["owner"] == "nobody"
    assert report.facts["schema"] == f"version {VERSION}"
    assert report.facts["quick check"] == "ok"
    assert report.jobs == {"pending": 0, "in_progress": 0, "success": 0, "failed": 0, "canceled": 0}


async def test_the_file_of_a_running_app_is_read_in_a_snapshot(path: Path) -> None:
    """Its owner is this process; what is only in the log counts; the app goes on as if nobody had looked."""
    async with current(path) as rig:
        await rig.app.scheduler.run_now("shop:note", {"text": "x"})
        await rig.app.scheduler.run_after(60, "shop:note", {"text": "y"})
        with only_looked(path, in_use=True):
            report = doctor(path, rig.clock.now_us())
        assert report.owner == os.getpid()
        assert report.facts["journal mode"] == "wal"
        assert report.jobs["success"] == 1
        assert report.jobs["pending"] == 1
        assert of(report, "error") == []
        assert of(report, "warning") == []
        await rig.app.scheduler.run_now("shop:note", {"text": "z"})
        assert len(await rig.call("shop:notes")) == 2


OWNER = """
import asyncio, sys
from pathlib import Path
from runtime import ActionCtx, App, MutationCtx

app = App(sys.argv[1])
ns = app.namespace("d")
app.schema("CREATE TABLE t (x)")

@ns.action
async def stand(ctx: ActionCtx) -> None:
    await asyncio.get_running_loop().create_future()

@ns.mutation
async def put(ctx: MutationCtx) -> None:
    await ctx.db.execute("INSERT INTO t VALUES (1)")

async def main():
    async with app:
        job = await app.scheduler.run_now("d:stand")
        while (await app.scheduler.get(job)).state != "in_progress":
            await asyncio.sleep(0)
        await app.scheduler.wait(await app.scheduler.run_now("d:put"))
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


@contextmanager
def owned(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process own the file, with an action that runs; it is killed at the end."""
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", OWNER, str(path)], cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    with child, child.stdout, child.stderr:
        try:
            if child.stdout.readline() != "ready\n":
                pytest.fail(child.stderr.read())
            yield child
        finally:
            child.kill()


def test_the_owner_is_named_and_what_a_killed_one_left_is_read_through_its_log(path: Path) -> None:
    """Owned by another process; then killed: nothing of the log is lost, and nothing is changed by looking."""
    now_us = 4_000_000_000_000_000
    with owned(path) as child:
        with only_looked(path, in_use=True):
            report = doctor(path, now_us)
        assert report.owner == child.pid
        assert report.facts["owner"] == f"process {child.pid}"
        assert report.jobs["in_progress"] == 1
        assert "longest running" in report.facts
        child.send_signal(signal.SIGKILL)
        child.wait()
        with only_looked(path):
            report = doctor(path, now_us)
        assert report.owner is None
        assert report.jobs["in_progress"] == 1
        assert report.ok
        says(report, "note", "the last process did not close the file")
        says(report, "note", "the longest running action is", "d:stand")


def test_a_log_without_its_index_is_left_to_the_next_start(path: Path) -> None:
    """Reading it would make a file: nothing is examined, and that is said; no false alarm about damage."""
    with owned(path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
    path.with_name("app.db-shm").unlink()
    with only_looked(path):
        report = doctor(path, NOW_US)
    says(report, "warning", "was not examined")
    assert report.jobs == {}
    assert report.ok


async def test_D8_D9_a_database_that_is_gone_older_or_another_is_told(path: Path, tmp_path: Path) -> None:
    """What the last owner has written down beside it is compared with what is there now."""
    other = tmp_path / "other"
    other.mkdir()
    async with current(other / "app.db") as rig:
        await rig.stop()
    async with current(path) as rig:
        await rig.stop()
    older = path.read_bytes()
    async with current(path) as rig:
        await rig.stop()
    newest = path.read_bytes()
    assert of(doctor(path, NOW_US), "warning") == []
    for data, severity, hint in (
        (older, "warning", "older than at its last start (1 starts, 2 on record)"),
        ((other / "app.db").read_bytes(), "warning", "another database than the one"),
        (b"", "error", "the file holds nothing, and app.db-lock remembers a database here, started 2 times"),
    ):
        path.write_bytes(data)
        with only_looked(path):
            says(doctor(path, NOW_US), severity, hint)
    path.unlink()
    says(doctor(path, NOW_US), "error", "the file is gone, and app.db-lock remembers", "started 2 times")
    path.write_bytes(newest)
    path.chmod(0o600)
    assert of(doctor(path, NOW_US), "warning") == []


@pytest.mark.parametrize("at", [0, 5, 11, 16, 23, 24, 31])
def test_D9_a_log_whose_header_is_damaged_is_an_error(at: int, path: Path) -> None:
    """SQLite would go on without it, and without a word: what was committed since the last checkpoint is lost."""
    with owned(path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert doctor(path, NOW_US).ok
    log = bytearray(path.with_name("app.db-wal").read_bytes())
    log[at] ^= 0x10
    path.with_name("app.db-wal").write_bytes(log)
    with only_looked(path):
        report = doctor(path, NOW_US)
    says(report, "error", "the header of the log is damaged")
    assert report.facts["quick check"] == "ok", "what a start would find is examined"


def test_the_log_of_a_running_app_that_was_removed_is_an_error(path: Path) -> None:
    """Trap T4's sibling: the app goes on without noticing, and everything since the last checkpoint hangs by it."""
    with owned(path):
        path.with_name("app.db-wal").unlink()
        report = doctor(path, NOW_US)
        says(report, "error", "files of the running app are gone", "app.db-wal")
        assert not report.ok


def test_a_half_written_file_is_not_called_damaged(path: Path) -> None:
    """Another program's journal rolls it back; until then its pages may be half of one moment and half of another."""
    copy_of(1, path)
    path.with_name("app.db-journal").write_bytes(b"x" * 100)
    with only_looked(path):
        report = doctor(path, NOW_US)
    says(report, "warning", "app.db-journal is there")
    says(report, "warning", "was not examined")
    assert report.ok


def test_through_a_symbolic_link_the_same_is_told(path: Path) -> None:
    """The side files stand beside what the link leads to."""
    link = path.with_name("link.db")
    with owned(path) as child:
        link.symlink_to(path)
        assert doctor(link, NOW_US).owner == child.pid
        assert doctor(link, NOW_US).path == path


def test_a_large_log_a_stale_journal_and_a_suspect_are_told(path: Path) -> None:
    """D14 and K15, from the files beside the database."""
    copy_of(1, path)
    path.with_name("app.db-blame").write_bytes((4711).to_bytes(8, "little"))
    report = doctor(path, NOW_US)
    says(report, "warning", "scheduled mutation number 4711")
    with path.with_name("app.db-wal").open("wb") as log:
        log.truncate(WAL_BYTES_WARN)
    path.with_name("app.db-journal").write_bytes(b"x" * 100)
    with only_looked(path):
        report = doctor(path, NOW_US)
    says(report, "warning", "the log is large: 64.0 MiB")
    says(report, "warning", "app.db-journal is there")
    path.with_name("app.db-blame").write_bytes(b"")
    assert "number" not in " ".join(of(doctor(path, NOW_US), "warning"))


def test_a_file_an_app_takes_while_it_is_examined_is_examined_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read while it moved is not believed."""
    copy_of(1, path)
    looks: list[str] = []
    real = module._read

    def read(findings: Findings, place: Path, access: Any, *rest: Any, **options: Any) -> None:
        looks.append(access)
        real(findings, place, access, *rest, **options)
        if access == "closed":
            findings.error("a page that was half written", "")
            monkeypatch.setattr(module, "holder", lambda _: os.getpid())

    monkeypatch.setattr(module, "_read", read)
    report = doctor(path, NOW_US)
    assert looks == ["closed", "live"]
    assert "a page that was half written" not in of(report, "error")


# ------------------------------------------------------------------ what is no file of ours


@pytest.mark.parametrize(
    ("what", "hint"),
    [
        ("missing", "does not exist"), ("missing folder", "does not exist"), ("folder", "not a regular file"),
        ("socket", "not a regular file"), ("null", "can't be looked at"), ("loop", "can't be looked at"),
        ("file as folder", "can't be looked at"), ("empty", "holds nothing of the scheduler"),
        ("text", "can't be read"), ("foreign", "belongs to another program"), ("newer", "upgrade actor-scheduler"),
        ("plain", "holds nothing of the scheduler"), ("like ours", "not the scheduler's"), ("hard link", "second name"),
        ("cut header", "can't be read"), ("missing table", "tables of the scheduler are missing"),
    ],
)  # fmt: skip
def test_what_can_t_be_used_is_an_error_that_says_why(what: str, hint: str, path: Path) -> None:
    """Whatever stands under the path, there is a report; and nothing is made or changed."""
    match what:
        case "missing folder" | "file as folder":
            if what == "file as folder":
                path.touch()
            path = path / "x.db"
        case "folder":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        case "null":
            path = path.with_name("a\0b")
        case "loop":
            path.symlink_to(path)
        case "empty":
            path.touch()
        case "text":
            path.write_bytes(b"hello, world\n" * 1000)
        case "cut header":
            path.write_bytes(b"SQLite format 3\0" + b"\xff" * 84)
        case "foreign":
            run(path, "PRAGMA application_id = 7", "CREATE TABLE t (x)")
        case "newer":
            run(path, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION + 1}")
        case "plain":
            run(path, "CREATE TABLE t (x)")
        case "like ours":
            run(path, "CREATE TABLE _scheduler_jobs (x)")
        case "hard link":
            os.link(copy_of(1, path), path.with_name("second.db"))
        case "missing table":
            run(copy_of(1, path), "DROP TABLE _scheduler_attempts")
    parent = next(at for at in path.parents if at.is_dir())
    with only_looked(parent / "x"):
        report = doctor(path, NOW_US)
    says(report, "error", hint)
    assert not report.ok
    assert report.render().isprintable() or "\n" in report.render()


# ------------------------------------------------------------------ what stands in it


def test_a_file_left_behind_is_told_in_full(path: Path) -> None:
    """Its version, its jobs, the overdue, the running and the failed: with how long and how many."""
    report = doctor(copy_of(1, path), NOW_US)
    assert report.jobs == {"pending": 7, "in_progress": 2, "success": 7, "failed": 7, "canceled": 2}
    says(report, "note", "the longest overdue job is", "(shop:bounce), for 12 h")
    says(report, "note", "the longest running action is", "(shop:hang), for 12 h")
    says(report, "note", "7 jobs failed in the last 24 hours", "error", "crash_loop", "interrupted", "timeout")
    assert report.facts["waiting in"] == "action 3, mutation 4"
    if VERSION > 1:
        says(report, "note", "the schema is of an earlier release")
    later = doctor(path, NOW_US + DAY_US)
    assert not any("failed in the last" in what for what in of(later, "note"))
    early = doctor(path, LEFT_US - 3_600_000_000)
    assert not any("overdue" in what for what in of(early, "note"))


async def test_what_waits_although_an_app_runs_is_a_warning(path: Path) -> None:
    """Overdue for over a minute, claims of a process that is gone, queues that nobody serves, and pauses."""
    async with current(path) as rig:
        for _ in range(2):
            await rig.app.scheduler.run_after(3_600, "shop:send", {"to": "x"})
        now_us = rig.clock.now_us()
        run(
            path,
            f"UPDATE _scheduler_jobs SET fire_at_us = {now_us - 90_000_000}, queue = 'actions' WHERE seq % 2",
            f"UPDATE _scheduler_jobs SET state = 'in_progress', started_at_us = {now_us}, boot = 77 WHERE NOT seq % 2",
            "INSERT INTO _scheduler_meta VALUES ('set:paused', 'for the \x1b[2J move')",
            "INSERT INTO _scheduler_meta VALUES ('set:pool:mail', 0)",
        )
        report = doctor(path, now_us)
        says(report, "warning", "the longest overdue job is", "1 min 30 s")
        says(report, "warning", "1 actions are in progress for a process that has ended")
        says(report, "warning", "1 jobs wait in queues that nobody serves: actions")
        says(report, "warning", "dispatch is paused: for the \\u001b[2J move")
        says(report, "note", "pool mail is paused")
        assert "\x1b" not in report.render()
        run(path, "DELETE FROM _scheduler_jobs", "DELETE FROM _scheduler_meta WHERE name LIKE 'set:%'")


def test_what_the_file_itself_contradicts_is_an_error(path: Path) -> None:
    """A state that does not exist, and a record without the numbers a start needs."""
    run(
        copy_of(1, path),
        "UPDATE _scheduler_jobs SET state = 'asleep' WHERE state = 'canceled'",
        "DELETE FROM _scheduler_meta WHERE name = 'boot_epoch'",
    )
    report = doctor(path, NOW_US)
    says(report, "error", "2 jobs are in a state that does not exist: asleep")
    says(report, "error", "the file's own record lacks boot_epoch")
    assert report.jobs["canceled"] == 0


def test_of_several_that_run_the_oldest_is_named_and_who_waits_in_a_lane_is_not_late(path: Path) -> None:
    """A parked job waits for the one before it, not for the app."""
    older, newer = LEFT_US - DAY_US // 4, LEFT_US
    run(
        copy_of(1, path),
        f"UPDATE _scheduler_jobs SET started_at_us = {newer} WHERE state = 'in_progress'",
        f"UPDATE _scheduler_jobs SET started_at_us = {older} WHERE seq = (SELECT max(seq) FROM _scheduler_jobs"
        " WHERE state = 'in_progress')",
        "UPDATE _scheduler_jobs SET queue = '~' || queue WHERE state = 'pending'",
    )
    report = doctor(path, NOW_US)
    says(report, "note", "the longest running action is", "for 18 h")
    assert not any("overdue" in what for what in of(report, "note"))
    assert not any("nobody serves" in what for what in of(report, "note"))


def test_a_file_in_use_that_is_in_no_log_mode_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only somebody else can have changed it."""
    run(copy_of(1, path), "PRAGMA journal_mode = DELETE")
    monkeypatch.setattr(module, "holder", lambda _: os.getpid())
    says(doctor(path, NOW_US), "error", "in journal mode delete while an app uses it")


def test_rows_without_their_parents_are_told(path: Path) -> None:
    """Only a program that writes past the app leaves them."""
    run(
        copy_of(1, path),
        "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE children (id INTEGER PRIMARY KEY, parent REFERENCES parents)",
        "INSERT INTO children VALUES (5, 6)",
    )
    says(doctor(path, NOW_US), "warning", "1 rows refer to rows that are not there; the first is row 5 of children")


def test_a_lost_index_entry_is_found_by_a_thorough_look(path: Path) -> None:
    """The quick check compares no index with its table."""
    run(
        copy_of(1, path),
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, 'pending', 'success') WHERE name = '_scheduler_jobs_due'",
    )
    assert doctor(path, NOW_US).facts["quick check"] == "ok"
    report = doctor(path, NOW_US, thorough=True)
    says(report, "error", "the file is damaged", "_scheduler_jobs_due")


def test_a_damaged_page_is_an_error_and_the_rest_is_still_told(path: Path) -> None:
    """D15: what can be read is reported beside what can't."""
    with closing(sqlite3.connect(copy_of(1, path))) as file:
        root = file.execute("SELECT rootpage FROM sqlite_schema WHERE name = '_scheduler_schema_steps'").fetchone()[0]
    damaged = bytearray(path.read_bytes())
    damaged[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(damaged)
    report = doctor(path, NOW_US)
    says(report, "error", "the file is damaged")
    assert report.jobs["pending"] == 7
    assert any(".recover" in problem.do for problem in report.problems)


def test_what_takes_too_long_is_given_up_and_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file of any size the doctor comes to an end."""
    with closing(sqlite3.connect(copy_of(1, path), isolation_level=None)) as file:
        sql = "INSERT INTO notes (text) WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 20000) SELECT x FROM n"
        file.execute(sql)
    monkeypatch.setattr(contents, "_BY_STATE", "SELECT text, count(*) FROM notes GROUP BY text")
    monkeypatch.setattr(module, "_PROGRESS_OPS", 100)
    says(doctor(path, NOW_US, limit_us=-1), "note", "the jobs took too long to find out")


def test_much_free_space_in_the_file_is_a_note(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not lost: new jobs use it first."""
    monkeypatch.setattr(contents, "_FREE_BYTES", 1 << 20)
    run(
        copy_of(1, path),
        "INSERT INTO notes (text) SELECT hex(zeroblob(1000000))",
        "DELETE FROM notes",
    )
    says(doctor(path, NOW_US), "note", "of the file are free pages")


# ------------------------------------------------------------------ around it


@pytest.mark.parametrize("side", ["", "-wal", "-shm"])
def test_a_file_that_others_may_read_is_a_warning(side: str, path: Path) -> None:
    """The log holds the same arguments as the file."""
    copy_of(1, path)
    assert not any("other users" in what for what in of(doctor(path, NOW_US), "warning"))
    open_file = path.with_name(path.name + side)
    open_file.touch()
    open_file.chmod(0o640)
    says(doctor(path, NOW_US), "warning", open_file.name, "other users of this host (mode 640)")


def test_a_network_file_system_a_full_disk_and_an_old_sqlite_are_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D12, D2: what an app warns of when it starts, the doctor tells from outside."""
    copy_of(1, path)
    monkeypatch.setattr(connection, "_file_system", lambda _: "nfs4")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 1 << 20))
    report = doctor(path, NOW_US)
    says(report, "warning", "on a nfs4 file system")
    says(report, "warning", "only 1.0 MiB of disk are free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 1 << 15))
    monkeypatch.setattr(module, "FREE_WARN_BYTES", 1 << 10)
    says(doctor(path, NOW_US), "note", "a backup would not fit")
    monkeypatch.setattr(module, "SQLITE_MIN", (4, 0, 0))
    says(doctor(path, NOW_US), "error", "is too old")
    monkeypatch.setattr(connection, "_file_system", lambda _: "ext4")
    assert not any("file system" in what for what in of(doctor(path, NOW_US), "warning"))


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False), ((3, 45, 0), True), ((3, 50, 6), True),
        ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False), ((3, 53, 0), False),
    ],
)  # fmt: skip
def test_T5_which_sqlite_has_the_wal_reset_bug(version: tuple[int, int, int], affected: bool) -> None:
    """Fixed in 3.51.3, and on two older branches; the linked version counts, not the shell's."""
    assert has_wal_reset_bug(version) is affected


@pytest.mark.parametrize(
    ("span_us", "text"),
    [(-5, "0 s"), (0, "0 s"), (61_000_000, "1 min 1 s"), (3_600_000_000, "1 h"), (90_061_000_000, "1 d 1 h")],
)
def test_spans_are_said_in_their_two_largest_units(span_us: int, text: str) -> None:
    """As people say them."""
    assert shown_span(span_us) == text


def test_the_tables_it_misses_are_those_of_the_schema() -> None:
    """A table that a later step adds is looked for by itself."""
    assert contents.TABLES is TABLES


# ------------------------------------------------------------------ any damage


def _damage(rng: random.Random, data: bytearray) -> bytearray:
    """Return a file after one of the things that happen to files."""
    match rng.randrange(7):
        case 0:
            return data[: rng.randrange(len(data) + 1)]
        case 1:
            for _ in range(rng.choice((1, 1, 2, 50))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            at = rng.randrange(100)  # the header
            data[at] = rng.randrange(256)
        case 3:
            page = rng.randrange(len(data) // 4096) * 4096
            data[page : page + 4096] = rng.choice((bytes(4096), b"\xff" * 4096, rng.randbytes(4096)))
        case 4:
            one, other = (rng.randrange(len(data) // 4096) * 4096 for _ in range(2))
            data[one : one + 4096], data[other : other + 4096] = data[other : other + 4096], data[one : one + 4096]
        case 5:
            page = rng.randrange(len(data) // 4096) * 4096
            at = page + (100 if page == 0 else 0) + rng.randrange(12)  # a page's own header
            data[at] = rng.randrange(256)
        case 6:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(1, 200)] = rng.randbytes(rng.randrange(1, 200))
    return data


@settings(max_examples=DAMAGED, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 62), st.sampled_from(sorted(KEPT)), st.booleans())
def test_D5_any_damage_gives_a_report(tmp_path: Path, seed: int, version: int, thorough: bool) -> None:
    """Cut, flipped, swapped or overwritten: a report comes, in printable lines, and the file stays as it is."""
    path = tmp_path / "damaged.db"
    path.write_bytes(_damage(random.Random(seed), bytearray(KEPT[version].read_bytes())))
    path.chmod(0o600)
    with only_looked(path):
        report = doctor(path, NOW_US, thorough=thorough, limit_us=5_000_000)
    assert all(line.isprintable() for line in report.render().split("\n"))
    assert report.ok == (not of(report, "error"))


@settings(
    max_examples=max(DAMAGED // 10, 20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 1 << 62))
def test_D9_any_damage_to_the_log_gives_a_report(tmp_path: Path, seed: int) -> None:
    """A log, or its index, that is cut, damaged or of another file."""
    rng = random.Random(seed)
    live, path = tmp_path / "live.db", tmp_path / "left.db"
    live.unlink(missing_ok=True)
    with closing(sqlite3.connect(copy_of(1, live), isolation_level=None)) as file:
        file.execute("PRAGMA wal_autocheckpoint = 0")
        for number in range(5):
            file.execute("UPDATE _scheduler_jobs SET attempt = ?", (number,))
        for side in ("", "-wal", "-shm"):
            data = bytearray(live.with_name(live.name + side).read_bytes())
            if rng.random() < 0.6:
                data = _damage(rng, data)
            path.with_name(path.name + side).write_bytes(data)
    with only_looked(path):
        report = doctor(path, NOW_US, limit_us=5_000_000)
    assert all(line.isprintable() for line in report.render().split("\n"))


@pytest.mark.parametrize("source", ["contents", "doctor", "doctor_crons"])
def test_the_commands_it_advises_exist(source: str) -> None:
    """Advice is for operators: what it names can be typed; only what is about code is said in Python."""
    text = (ROOT / f"actor_scheduler/store/sqlite/{source}.py").read_text()
    told = [str(node.value) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    for command in re.findall(r"actor-scheduler ((?:[a-z]+ ?)+)", "\n".join(told)):
        found: Any = cli
        for word in command.split():
            if not isinstance(found, click.Group):
                break
            found = found.get_command(click.Context(found), word)
            assert found is not None, command
        assert isinstance(found, click.Command), command
    assert not re.search(r"\b(scheduler|crons)\.[a-z_]+", "\n".join(told).replace("_scheduler", ""))
