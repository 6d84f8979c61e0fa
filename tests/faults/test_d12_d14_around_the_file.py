"""Rows D12, D13, D14 and M5: where the file lies, how slow its disk is, and how large its log grows."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from actor_scheduler import turn_watch
from actor_scheduler.store.sqlite import connection, store
from actor_scheduler.testing.clock import VirtualClock
from runtime import App, MutationCtx, Namespace, QueryCtx, StoreUnavailable

ns = Namespace("around")


@ns.mutation
async def note(ctx: MutationCtx, *, size: int = 1) -> None:
    await ctx.db.execute("INSERT INTO notes VALUES (zeroblob(?))", [size])


@ns.query
async def count(ctx: QueryCtx) -> int:
    return await ctx.db.fetch_value("SELECT count(*) FROM notes", into=int) or 0


def make(path: Path) -> App:
    app = App(path, namespaces=[ns])
    app.schema("CREATE TABLE notes (data BLOB)")
    return app


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs", "virtiofs"])
async def test_D12_M5_a_network_file_system_is_told_at_the_start(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two hosts may not see each other's lock there, so the log says so; whether it is run all the same is theirs."""
    monkeypatch.setattr(connection, "_file_system", lambda _: kind)
    with caplog.at_level(logging.WARNING):
        async with make(tmp_path / "app.db") as app:
            await app.call(note)
    assert [record.message for record in caplog.records if kind in record.message]


async def test_D12_a_local_file_system_is_not_remarked_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with make(tmp_path / "app.db"):
            pass
    assert not [record for record in caplog.records if "file system" in record.message]


async def test_D13_a_slow_turn_is_told_and_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator must hear of a slow disk before it is a stalled one; what was asked is done all the same."""
    monkeypatch.setattr(turn_watch, "SLOW_TURN_US", -1)
    async with make(tmp_path / "app.db") as app:
        with caplog.at_level(logging.WARNING):
            await app.call(note)
        assert "a slow disk, or a slow mutation" in caplog.text
        assert (await app.call(count), app.unready_reason) == (1, None)


async def test_D14_a_log_that_can_not_be_reset_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader that does not end lets the log grow: each call is served, and the log file's size is told."""
    monkeypatch.setattr(store, "_TURNS_PER_LOOK", 1)
    monkeypatch.setattr(store, "WAL_BYTES_WARN", 1 << 20)
    path = tmp_path / "app.db"
    async with make(path) as app:
        await app.call(note)
        reader = connection.connect_reader(path)
        try:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM notes").fetchone()
            with caplog.at_level(logging.WARNING):
                for _ in range(40):
                    await app.call(note, size=1 << 16)
        finally:
            reader.close()
        told = [record.message for record in caplog.records if "does a reader, or a backup, not end?" in record.message]
        assert len(told) == 1
        assert await app.call(count) == 41
    assert not path.with_name("app.db-wal").exists()


async def test_D4_a_reopening_waits_for_a_foreign_reader_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a failed flush nothing is answered before the log was written back; a reader that never ends is given up."""
    path = tmp_path / "app.db"
    clock = VirtualClock()
    app = App(path, namespaces=[ns], clock=clock)
    app.schema("CREATE TABLE notes (data BLOB)")
    monkeypatch.setattr(connection, "_BUSY_MS", 1)
    async with app:
        await app.call(note)
        reader = connection.connect_reader(path)
        try:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM notes").fetchone()
            running = app._running()
            running.actor.broken = StoreUnavailable("a flush failed")
            running.actor._wake.set()
            while "log can't be written back" not in str(app.unready_reason):
                await asyncio.sleep(0)
            with pytest.raises(StoreUnavailable, match="being reopened"):
                await app.call(count)
            with pytest.raises(StoreUnavailable):
                await app.call(note)
            monkeypatch.setattr(store, "_READER_US", 0)
            clock.move_to(clock.now_us() + 5_000_000)
            while app.unready_reason is not None:
                await asyncio.sleep(0)
            assert "could not be written back" in caplog.text
            await app.call(note)
            assert await app.call(count) == 2
        finally:
            reader.close()
