"""A file that no app has open: what an operator does there holds, and a look leaves no trace."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.errors import DatabaseLocked, SchemaError, StoreUnavailable, UnknownFunction
from actor_scheduler.store.sqlite.blame import noted
from actor_scheduler.store.sqlite.schema import VERSION
from actor_scheduler.testing.clock import VirtualClock
from actor_scheduler.times import from_datetime
from runtime import ActionCtx, App, MutationCtx, Namespace, Retry
from runtime.offline import OfflineApp, check_private, check_schema, in_use, migrate_file, owner_of
from runtime.testing import START, Harness
from tests.maintenance.files import content, copy_of, jobs, run

AFTER = VirtualClock(from_datetime(START + timedelta(days=8, minutes=30)))  # when an operator comes


def make(path: Path | str = "left.db") -> App[Any]:
    """Return an app whose jobs wait everywhere a job can wait."""
    work = Namespace[Any]("work")

    @work.mutation
    async def note(ctx: MutationCtx, *, text: str = "") -> str:
        return text

    @work.action
    async def once(ctx: ActionCtx) -> None:
        await ctx.sleep(3600)

    @work.action(retry=Retry(5, base=timedelta(minutes=1)), pool="mail")
    async def again(ctx: ActionCtx) -> None:
        await ctx.sleep(3600)

    @work.action(pool="mail")
    async def fail(ctx: ActionCtx) -> None:
        raise RuntimeError("no luck")

    app = App[Any](path, namespaces=[work])
    app.schema("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    app.pool("mail", 5)
    app.pool("idle", 1)
    app.crons.interval("sweep", "work:note", hours=7)
    app.crons.cron("digest", "0 8 * * *", "work:note", {"text": "digest"}, tz="Europe/Paris")
    return app


async def leave(path: Path) -> dict[str, str]:
    """Leave a file as a killed process does: with running actions, a named mutation, waiting and ended jobs."""
    app = make(path)
    async with Harness(app, db=path) as harness:
        ids = {
            "failed": await app.scheduler.run_now("work:fail"),
            "later": await app.scheduler.run_after(600, "work:note", {"text": "later"}, key="k"),
            "first": await app.scheduler.run_after(60, "work:note", lane="l"),
            "second": await app.scheduler.run_after(60, "work:note", lane="l"),
            "old": await app.scheduler.run_now("work:note"),
        }
        await app.scheduler.set_pool("idle", 0)
        await harness.advance(days=8)
        ids["failed_now"] = await app.scheduler.run_now("work:fail")
        ids["ended"] = await app.scheduler.run_now("work:note", {"text": "ended"})
        ids["once"] = await app.scheduler.run_now("work:once")
        ids["again"] = await app.scheduler.run_now("work:again")
        ids["waits"] = await app.scheduler.run_after(86_400, "work:note", {"text": "waits"}, lane="m")
        ids["behind"] = await app.scheduler.run_after(86_400, "work:note", {"text": "waits"}, lane="m")
        ids["mail"] = await app.scheduler.run_after(86_400, "work:fail", priority=3)
        await app.crons.pause("digest", note="by hand")
        await harness.settle()
        await app._stop(kill=True)
    named = next(row["seq"] for row in jobs(path) if row["state"] == "pending" and row["kind"] == "mutation")
    path.with_name(path.name + "-blame").write_bytes(struct.pack("<q", named))
    return ids


@pytest.fixture
async def left(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file that a killed process left, and the ids of its jobs."""
    path = tmp_path / "left.db"
    return path, await leave(path)


def states(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in jobs(path):
        found[row["state"]] = found.get(row["state"], 0) + 1
    return found


async def test_a_look_changes_nothing(left: tuple[Path, dict[str, str]]) -> None:
    """Not one row, whatever was due, running, pausing or old enough to be pruned."""
    path, ids = left
    before = content(path)
    assert {"pending", "in_progress", "failed", "success"} <= states(path).keys()
    async with OfflineApp(path, clock=AFTER) as app:
        assert (await app.scheduler.list().page()).items[0].id == max(ids.values())
        job = await app.scheduler.get(ids["once"])
        assert job is not None
        assert job.state == "in_progress"
        assert [info.name async for info in app.crons.list()] == ["digest", "sweep"]
        assert {pool.name: pool.limit for pool in app.scheduler.pools()}["idle"] == 0
        assert len(await app.crons.next_ticks("sweep", 3)) == 3
        assert app.unready_reason is not None
    assert content(path) == before
    assert noted(path) == struct.unpack("<q", path.with_name("left.db-blame").read_bytes())[0] > 0


async def test_a_look_is_not_seen_by_the_next_start(left: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """The app that starts on the file afterwards leaves just what it leaves on a copy that nobody looked at."""
    path, _ = left
    other = tmp_path / "other" / "left.db"
    other.parent.mkdir()
    for side in ("", "-lock", "-blame", "-wal", "-shm"):
        if path.with_name(path.name + side).exists():
            shutil.copyfile(path.with_name(path.name + side), other.with_name(other.name + side))
    async with OfflineApp(path, clock=AFTER) as app:
        await app.scheduler.list().page()
    for each in (path, other):
        async with Harness(make(each), db=each, start=START + timedelta(days=9), seed=7) as harness:
            await harness.advance(days=1)
    assert content(path) == content(other)
    assert "in_progress" not in states(path)


async def test_what_is_steered_holds_for_the_next_start(left: tuple[Path, dict[str, str]]) -> None:
    """Cancel, retry, drop, pause, pools and crons; and a job goes back to the queue that its function has."""
    path, ids = left
    async with OfflineApp(path, clock=AFTER) as app:
        assert await app.scheduler.cancel(ids["waits"])
        assert await app.scheduler.retry(ids["failed_now"])
        assert await app.scheduler.drop(ids["ended"])
        assert not await app.scheduler.cancel(ids["once"])  # it had started; it shall not be tried again
        await app.scheduler.pause("by an operator")
        await app.scheduler.set_pool("mail", 2)
        await app.scheduler.set_pool("idle", None)
        await app.crons.resume("digest")
        await app.crons.pause("sweep", note="offline")
    rows = {row["seq"]: row for row in jobs(path)}
    queues = {row["path"]: row["queue"] for row in rows.values() if row["state"] == "pending"}
    assert queues["work:fail"].startswith("pool:mail")
    async with Harness(app := make(path), db=path, start=START + timedelta(days=8, hours=1), crons=False) as harness:
        assert app.scheduler.paused == "by an operator"
        assert {pool.name: pool.limit for pool in app.scheduler.pools()} == {"idle": 1, "mail": 2}
        crons = {info.name: info async for info in app.crons.list()}
        assert not crons["digest"].paused
        assert crons["sweep"].paused
        assert crons["sweep"].note == "offline"
        await app.scheduler.resume()
        await harness.settle()
        found = {name: await app.scheduler.get(job_id) for name, job_id in ids.items()}
        assert found["ended"] is None
        assert found["waits"] is not None and found["waits"].state == "canceled"
        assert found["failed_now"] is not None and found["failed_now"].attempt == 2
        assert found["once"] is not None and found["once"].state == "canceled"
        assert found["again"] is not None and found["again"].attempt == 1
        assert found["behind"] is not None and found["behind"].state == "pending"
        await harness.advance(days=1)
        behind = await app.scheduler.get(ids["behind"])
        assert behind is not None
        assert behind.state == "success"


async def test_nothing_is_dispatched(left: tuple[Path, dict[str, str]]) -> None:
    """Not after a resume, and not when a retry makes a job due now."""
    path, ids = left
    async with OfflineApp(path, clock=AFTER) as app:
        await app.scheduler.resume()
        await app.scheduler.retry(ids["failed_now"])
        assert app._running().actor.quiet
        job = await app.scheduler.get(ids["failed_now"])
        assert job is not None
        assert job.state == "pending"


async def test_what_needs_functions_is_refused(left: tuple[Path, dict[str, str]]) -> None:
    """And nothing of it is stored."""
    path, _ = left
    async with OfflineApp(path, clock=AFTER) as app:
        with pytest.raises(UnknownFunction):
            await app.scheduler.run_now("work:note")
        with pytest.raises(UnknownFunction):
            await app.call("work:note")


async def test_a_file_in_use_is_refused_at_once_with_its_owner(tmp_path: Path) -> None:
    """One process owns a file."""
    path = tmp_path / "used.db"
    async with make(path):
        with pytest.raises(DatabaseLocked):
            async with OfflineApp(path):
                pass
        with pytest.raises(DatabaseLocked):
            await migrate_file(path)
        assert owner_of(path) == os.getpid()
        assert f"(process {os.getpid()})" in in_use(path)
        assert "--url" in in_use(path)
    assert owner_of(path) is None


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_an_older_file_is_brought_up_to_date_and_kept(version: int, tmp_path: Path) -> None:
    """Opening it refuses and says how; what it was stands beside it; again changes nothing; no job is judged."""
    path = copy_of(version, tmp_path / "old.db")
    before = content(path)
    with pytest.raises(SchemaError, match="actor-scheduler migrate"):
        async with OfflineApp(path):
            pass
    assert content(path) == before
    done = await migrate_file(path)
    assert (done.before, done.after) == (version, VERSION)
    assert done.copy is not None
    assert content(done.copy) == before
    assert stat.S_IMODE(done.copy.stat().st_mode) == 0o600
    assert [row[:1] for row in content(path).rows["_scheduler_jobs"]] == [
        row[:1] for row in before.rows["_scheduler_jobs"]
    ]
    after = content(path)
    assert await migrate_file(path) == (VERSION, VERSION, None)
    assert content(path) == after
    async with OfflineApp(path, clock=AFTER) as app:
        assert await app.scheduler.list().count() == len(jobs(path))
        retried = await app.scheduler.list(state="failed").retry()
    shutil.copyfile(done.copy, path)
    assert (await migrate_file(path)).copy == path.with_name(f"old.db.v{version}.1")
    assert retried >= 0


async def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    """Missing, empty, another program's, or of a newer release."""
    missing, empty, newer, foreign = (tmp_path / f"{name}.db" for name in ("missing", "empty", "newer", "foreign"))
    empty.touch()
    copy_of(2, newer)
    run(newer, "PRAGMA user_version = 99")
    run(foreign, "CREATE TABLE theirs (id)")
    for path, error in (
        (missing, StoreUnavailable), (empty, SchemaError), (newer, SchemaError), (foreign, SchemaError),
    ):  # fmt: skip
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(error):
            async with OfflineApp(path):
                pass
        with pytest.raises(error):
            await migrate_file(path)
        assert (path.read_bytes() if path.exists() else None) == before


def test_root_refuses_what_others_could_have_put_there(tmp_path: Path) -> None:
    """A link, a link beside it, a file or a folder of another user, a folder that others write; and nobody else does."""
    folder = tmp_path / "safe"
    folder.mkdir(mode=0o700)
    path = folder / "app.db"
    path.touch(0o600)
    if path.stat().st_uid != 0:
        pytest.skip("only root can make files of others")
    check_private(path, 0)
    link = folder / "link.db"
    link.symlink_to(path)
    beside = folder / "app.db-lock"
    beside.symlink_to(tmp_path / "elsewhere")
    for each in (link, path):
        with pytest.raises(StoreUnavailable, match="symbolic link"):
            check_private(each, 0)
    beside.unlink()
    check_private(path, 0)
    os.chown(path, 1234, 1234)
    with pytest.raises(StoreUnavailable, match="user 1234"):
        check_private(path, 0)
    check_private(path, 1234)
    os.chown(path, 0, 0)
    folder.chmod(0o777)
    with pytest.raises(StoreUnavailable, match="written by others"):
        check_private(path, 0)
    folder.chmod(0o1777)
    check_private(path, 0)
    folder.chmod(0o700)
    os.chown(folder, 1234, 1234)
    with pytest.raises(StoreUnavailable, match="user 1234"):
        check_private(path, 0)
    assert not os.path.lexists(beside)


def test_a_schema_is_tried_on_an_empty_file() -> None:
    """Nothing is left of it."""
    check_schema(make()._schema)
    bad = App[Any]("bad.db")
    bad.schema("CREATE TABLE x (id INTEGER")
    with pytest.raises(SchemaError):
        check_schema(bad._schema)
    assert not Path("bad.db").exists()
