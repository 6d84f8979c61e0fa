"""Rows D8 and D9: a database that is gone, older, or another one than at the last start, is noticed."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from actor_scheduler.errors import StoreUnavailable
from runtime import App, MutationCtx, Namespace
from runtime.testing import Harness

ns = Namespace("d")


@ns.mutation
async def note(ctx: MutationCtx) -> None:
    """Do nothing, durably."""


def app(path: Path) -> App:
    return App(path, namespaces=[ns])


async def run_once(path: Path, jobs: int = 1) -> None:
    async with Harness(app(path), db=path) as h:
        for _ in range(jobs):
            await h.scheduler.run_now(note.bind())


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
async def test_d8_a_database_that_was_here_and_is_gone_is_not_replaced_by_an_empty_one(
    tmp_path: Path, left: str
) -> None:
    """An unmounted volume or a slip of `rm` must not look like a scheduler without jobs."""
    path = tmp_path / "app.db"
    await run_once(path)
    path.unlink()
    if left == "an empty file":
        path.touch()
    with pytest.raises(StoreUnavailable, match=r"gone or empty, but it was started 1 time.*remove app.db-lock too"):
        await run_once(path)
    assert not path.exists() or path.stat().st_size == 0
    (tmp_path / "app.db-lock").unlink()
    await run_once(path)


async def test_d8_a_start_that_failed_before_its_first_commit_leaves_nothing_to_remember(tmp_path: Path) -> None:
    """Only a start that succeeded is remembered: a failed first one must not block the second."""
    path = tmp_path / "app.db"
    broken = app(path)
    broken.schema("CREATE TABLE oops (")
    with pytest.raises(Exception, match="oops|incomplete|syntax"):
        async with Harness(broken, db=path):
            pass
    path.unlink(missing_ok=True)
    await run_once(path)


async def test_d9_an_older_copy_is_used_and_said_to_be_older(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Restoring a backup is legitimate; that what came after it is gone must be said."""
    path, copy = tmp_path / "app.db", tmp_path / "copy.db"
    await run_once(path)
    shutil.copy(path, copy)
    await run_once(path)
    await run_once(path)
    shutil.copy(copy, path)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        await run_once(path)
    assert [r.message for r in caplog.records if "is older than at its last start (start 1 after start 3)" in r.message]
    caplog.clear()
    await run_once(path)
    assert not [record for record in caplog.records if "older" in record.message]


async def test_d9_another_database_is_used_and_said_to_be_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two databases swapped by mistake are told apart by the uuid each was born with."""
    first, second = tmp_path / "a.db", tmp_path / "b.db"
    await run_once(first)
    await run_once(second)
    shutil.copy(second, first)
    with caplog.at_level(logging.WARNING):
        await run_once(first)
    assert [record for record in caplog.records if "is another database than the one that was here" in record.message]
