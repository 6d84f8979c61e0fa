"""D10, K16, G16: a file of any release past is brought to today's schema whole, or not at all."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from actor_scheduler import codec
from actor_scheduler.errors import InvalidArgs, KeyConflict, SchemaError, StoreUnavailable
from actor_scheduler.ids import format_id
from actor_scheduler.store.sqlite import schema
from actor_scheduler.store.sqlite.schema import STEPS, TABLES, VERSION, migrate
from actor_scheduler.testing.clock import START_US
from actor_scheduler.times import to_datetime
from tests.faults.injector import Injector
from tests.faults.rig import Rig
from tests.fixtures.make import LEFT_US, SCHEMA, UNICODE, second_release, shop
from tests.maintenance.files import KEPT, content, copy_of, jobs, run

ROOT: Final = Path(__file__).parents[2]
STARTS_FROM: Final = [0, *KEPT]  # 0: a new file, which takes every step at once
INTEGERS: Final = (9_223_372_036_854_775_807, -9_223_372_036_854_775_808)

every_kept_file = pytest.mark.parametrize("version", sorted(KEPT))
every_start = pytest.mark.parametrize("version", STARTS_FROM)
every_upgrade = pytest.mark.parametrize("version", [version for version in STARTS_FROM if version < VERSION])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database file."""
    return tmp_path / "app.db"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Injector:
    """The injector, between the store and sqlite3."""
    injector = Injector()
    injector.install(monkeypatch)
    return injector


def rig_on(path: Path) -> Rig:
    """Return the app that every kept file belongs to, at a moment before any of its jobs is due."""
    rig = Rig(path, shop(), second_release(), create=False, max_running_actions=2, synchronous="NORMAL")
    rig.app.schema(SCHEMA)
    return rig


def migrated(path: Path) -> Path:
    """Bring a file to today's schema, as a start does, and return its path."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        migrate(raw, START_US)
    return path


def test_every_version_before_todays_has_a_kept_file() -> None:
    """Whoever adds a step also keeps a file as the version before it left it."""
    assert set(range(1, VERSION)) <= set(KEPT)


# ------------------------------------------------------------------ what an upgrade keeps


@every_kept_file
async def test_every_job_of_a_kept_file_can_be_read(version: int, path: Path) -> None:
    """Each is the job it was, field by field; only what had been running is failed: interrupted."""
    before = jobs(copy_of(version, path))
    assert {row["state"] for row in before} == {"pending", "in_progress", "success", "failed", "canceled"}
    async with rig_on(path) as rig:
        for row in before:
            job = await rig.job(format_id(row["seq"], row["nonce"]))
            running = row["state"] == "in_progress"
            assert (job.state, job.cause) == (("failed", "interrupted") if running else (row["state"], row["cause"]))
            assert (job.path, job.kind, job.attempt) == (row["path"], row["kind"], row["attempt"])
            assert (job.key, job.idempotency_key, job.parent_id) == (
                row["key"], row["idempotency_key"], row["parent_id"],
            )  # fmt: skip
            assert job.scheduled_at == to_datetime(row["scheduled_at_us"])
            assert job.created_at == to_datetime(row["created_at_us"])
            try:
                assert (dict(job.args), job.args_error) == (codec.decode(row["args"]), None)
            except InvalidArgs:
                assert job.args_error is not None
            if not running:
                assert job.error == row["error"]
                assert job.traceback == row["traceback"]
                assert job.result_truncated == bool(row["result_truncated"])
                assert job.result == (None if row["result"] is None else codec.decode(row["result"]))
                ended = row["completed_at_us"]
                assert job.completed_at == (None if ended is None else to_datetime(ended))
        listed = [job.id async for job in rig.app.scheduler.list()]
        assert listed == [format_id(row["seq"], row["nonce"]) for row in reversed(before)]


@every_kept_file
async def test_every_waiting_job_of_a_kept_file_runs_once(version: int, path: Path) -> None:
    """At its time, with its own arguments; the one whose arguments are damaged fails alone."""
    before = [row for row in jobs(copy_of(version, path)) if row["state"] == "pending"]
    ends: Counter[tuple[str, str, str | None]] = Counter()
    async with rig_on(path) as rig:
        notes = Counter(text for text, _ in await rig.call("shop:notes"))
        for moment_us in (LEFT_US - 1, LEFT_US + 60_000_000, LEFT_US + 367 * 86_400_000_000):
            await rig.kill()
            rig.clock.move_to(moment_us)
            await rig.start()
            for row in before:
                job = await rig.app.scheduler.get(format_id(row["seq"], row["nonce"]))
                due = row["fire_at_us"] <= moment_us
                if job is not None:
                    assert (job.state != "pending") == due, job
                if due and moment_us - row["fire_at_us"] < 2 * 86_400_000_000:
                    assert job is not None, "ended just now, and gone"
                    ends[job.path, job.state, job.cause] += 1
        after = Counter(text for text, _ in await rig.call("shop:notes"))
    steered = version >= 2  # by then there were lanes, and retries
    assert ends == Counter({
        ("shop:note", "success", None): 5 if steered else 3, ("shop:note", "failed", "invalid_args"): 1,
        ("shop:send", "success", None): 2, ("shop:bounce", "failed", "error"): 1,
        ("shop:refuses", "failed", "error"): int(steered),
    })  # fmt: skip
    laned = {"in lane": int(steered), "behind it": int(steered)}
    assert after - notes == Counter({"soon": 1, UNICODE: 1, "in a year": 1, **laned})


@every_kept_file
async def test_keys_and_recorded_calls_of_a_kept_file_still_stand(version: int, path: Path) -> None:
    """A resend finds the first call or the first job, and an unfinished job keeps its key."""
    copy_of(version, path)
    by_key = {row["key"]: format_id(row["seq"], row["nonce"]) for row in jobs(path) if row["key"]}
    by_once = {row["idempotency_key"]: format_id(row["seq"], row["nonce"]) for row in jobs(path)}
    async with rig_on(path) as rig:
        app, scheduler = rig.app, rig.app.scheduler
        before = await rig.call("shop:notes")
        again = await app.idempotent("checkout-1").call("shop:note", {"text": UNICODE})
        assert again == {"length": len(UNICODE), "text": UNICODE[:20]}
        assert await rig.call("shop:notes") == before
        with pytest.raises(KeyConflict):
            await app.idempotent("checkout-1").call("shop:note", {"text": "another"})
        for once, text in (("once", "sent twice"), ("again", UNICODE)):
            assert await scheduler.run_now("shop:note", {"text": text}, idempotency_key=once) == by_once[once]
        for key in ("weekly", "yearly"):
            assert await scheduler.run_now("shop:note", {"text": "x"}, key=key) == by_key[key]
        for key in ("daily", "dropped"):
            assert await scheduler.run_now("shop:note", {"text": "x"}, key=key) != by_key[key]
        assert await scheduler.cancel(by_key["yearly"])


@every_kept_file
def test_an_upgrade_loses_no_row_and_no_value(version: int, path: Path) -> None:
    """Every row of every table is there with every value it had; the app's own tables are not touched at all."""
    before = content(copy_of(version, path))
    old = jobs(path)
    after = content(migrated(path))
    assert [{name: row[name] for name in old[0]} for row in jobs(path)] == old
    for table in before.rows.keys() - {"_scheduler_jobs"}:
        assert after.rows[table] == before.rows[table], table
    theirs = {entry for entry in before.schema if not _is_ours(entry)}
    assert theirs <= set(after.schema)


@every_kept_file
@pytest.mark.parametrize("value", INTEGERS)
def test_a_row_that_is_garbage_does_not_stop_an_upgrade(version: int, value: int, path: Path) -> None:
    """R11: whatever number stands in a row, the file is upgraded, and the row is kept as it is."""
    names = {row[1] for row in _columns(copy_of(version, path)) if row[2] == "INTEGER" and row[1] != "seq"}
    assert "completed_at_us" in names
    for name in names:
        run(path, f"UPDATE _scheduler_jobs SET {name} = {value} WHERE state <> 'pending'")
    before = jobs(path)
    migrated(path)
    assert [{name: row[name] for name in before[0]} for row in jobs(path)] == before


def _columns(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute("PRAGMA table_info(_scheduler_jobs)").fetchall()


# ------------------------------------------------------------------ once, and in one piece


@every_kept_file
def test_an_upgraded_file_is_like_a_new_one(version: int, path: Path, tmp_path: Path) -> None:
    """The same tables, columns and indexes, whichever way led there."""
    upgraded = content(migrated(copy_of(version, path)))
    new = content(migrated(copy_of(0, tmp_path / "new.db")))
    assert upgraded.version == new.version == VERSION
    assert set(upgraded.schema) >= set(new.schema)
    assert {entry[1] for entry in set(upgraded.schema) - set(new.schema)} == {b"notes"}


@every_start
def test_the_second_start_changes_nothing(version: int, path: Path) -> None:
    """Not a byte: migrating is for the first start only."""
    migrated(copy_of(version, path))
    before = path.read_bytes()
    migrated(path)
    assert path.read_bytes() == before


@every_start
def test_all_steps_are_one_transaction(version: int, path: Path) -> None:
    """However many steps a file lacks, there is one BEGIN and one COMMIT, and nothing writes outside them."""
    said: list[str] = []
    with closing(sqlite3.connect(copy_of(version, path), isolation_level=None)) as raw:
        raw.set_trace_callback(said.append)
        migrate(raw, START_US)
    assert [sql.split()[0] for sql in said if sql.startswith(("BEGIN", "COMMIT", "ROLLBACK"))] == (
        [] if version == VERSION else ["BEGIN", "COMMIT"]
    )
    inside = False
    for sql in said:
        inside = inside or sql.startswith("BEGIN")
        assert inside or sql.startswith("SELECT") or (sql.startswith("PRAGMA") and "=" not in sql), sql
        inside = inside and not sql.startswith("COMMIT")
    assert all(any(statement in sql for sql in said) for step in STEPS[version:] for statement in step)


@every_kept_file
async def test_a_newer_file_is_refused_and_not_a_byte_of_it_changes(
    version: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that is rolled back can't read what the next one wrote: it says so, and leaves it as it is."""
    async with rig_on(copy_of(version, path)) as rig:
        await rig.stop()
    before = path.read_bytes()
    for older in range(VERSION):
        monkeypatch.setattr(schema, "VERSION", older)
        with pytest.raises(SchemaError, match="upgrade actor-scheduler"):
            await rig_on(path).start()
        assert path.read_bytes() == before
        assert {entry.name for entry in path.parent.iterdir()} == {"app.db", "app.db-lock"}


# ------------------------------------------------------------------ a failure, or a death, at every statement


class Upgrade:
    """What a file holds before and after its upgrade."""

    def __init__(self, version: int, folder: Path) -> None:
        reference = copy_of(version, folder / "reference.db")
        self._before = content(reference)
        self._after = content(migrated(reference))

    def is_done(self, path: Path) -> bool:
        """Whether a file has been upgraded; fails when it is anything between."""
        now = content(path)
        if now.version == self._before.version:
            assert now == self._before
            return False
        assert now.version == VERSION
        assert [entry for entry in now.schema if _is_ours(entry)] == [
            entry for entry in self._after.schema if _is_ours(entry)
        ]
        jobs_now, jobs_then = now.rows["_scheduler_jobs"], self._after.rows["_scheduler_jobs"]
        assert [row[0] for row in jobs_now] == [row[0] for row in jobs_then]
        return True


def _is_ours(entry: tuple[Any, ...]) -> bool:
    return entry[2].decode() in TABLES


@every_upgrade
@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_start_whose_nth_statement_fails_leaves_the_old_file_or_the_new_one(
    version: int, carried_out: bool, path: Path, tmp_path: Path, faults: Injector
) -> None:
    """Whichever statement fails, done or not: the start is refused in one sentence, and the next one succeeds."""
    faults.fail_call_after = carried_out
    seen: Counter[bool] = Counter()
    failed: list[str] = []
    upgrade = Upgrade(version, tmp_path)
    for number in itertools.count(1):
        for left in path.parent.glob("app.db*"):  # what was started before is remembered beside it
            left.unlink()
        copy_of(version, path)
        faults.calls, faults.fail_call, faults.failed_call = 0, number, None
        rig = rig_on(path)
        try:
            await rig.start()
        except (StoreUnavailable, SchemaError) as refusal:
            assert "\n" not in str(refusal)
        else:
            await rig.kill()
            assert faults.failed_call is None or "COMMIT" not in faults.failed_call
        if faults.failed_call is None:
            break
        failed.append(faults.failed_call)
        faults.fail_call = None
        seen[upgrade.is_done(path)] += 1
        async with rig_on(path) as again:
            assert len([job async for job in again.app.scheduler.list()]) == len(jobs(path))
        assert upgrade.is_done(path)
    for step in STEPS[version:]:
        for statement in step:
            assert statement in failed, "not every statement was made to fail"
    assert set(seen) == {True, False}


KILLED = """
import os, shutil, signal, sqlite3, sys
from pathlib import Path
from actor_scheduler.store.sqlite.schema import migrate

class Dying(sqlite3.Connection):
    left, carried_out = 0, False

    def execute(self, *args): return self.dying(super().execute, *args)
    def executemany(self, *args): return self.dying(super().executemany, *args)

    def dying(self, run, *args):
        self.left -= 1
        if self.left == 0 and not self.carried_out:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return run(*args)
        finally:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

source, folder, carried_out = Path(sys.argv[1]), Path(sys.argv[2]), bool(int(sys.argv[3]))
number = 0
while True:
    number += 1
    path = folder / f"{number}.db"
    shutil.copyfile(source, path)
    pid = os.fork()
    if pid == 0:
        raw = sqlite3.connect(path, isolation_level=None, factory=Dying)
        raw.carried_out = carried_out
        raw.execute("PRAGMA journal_mode = WAL").fetchall()
        raw.left = number
        migrate(raw, 0)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        break
    assert number < 1_000
print(number)
"""


@every_upgrade
@pytest.mark.parametrize("carried_out", [False, True])
def test_K16_a_process_killed_at_any_statement_leaves_the_old_file_or_the_new_one(
    version: int, carried_out: bool, path: Path, tmp_path: Path
) -> None:
    """A real process, killed before or after each statement in turn; the next one makes the upgrade whole."""
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, "-c", KILLED, str(copy_of(version, path)), str(folder), str(int(carried_out))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    deaths = int(done.stdout) - 1
    assert deaths > sum(len(step) for step in STEPS[version:])
    upgrade = Upgrade(version, tmp_path)
    outcomes = [upgrade.is_done(folder / f"{at}.db") for at in range(1, deaths + 1)]
    assert outcomes == sorted(outcomes), "once it is committed, it stays"
    assert set(outcomes) == ({False, True} if carried_out else {False})
    for at in range(1, deaths + 1):
        assert upgrade.is_done(migrated(folder / f"{at}.db"))
