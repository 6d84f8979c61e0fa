"""`app.backup` and `doctor`, as an app's own code uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from actor_scheduler.store.sqlite import backup
from runtime import App, Backup, InvalidArgs, MutationCtx, Namespace, NotStarted, StoreUnavailable, doctor
from runtime.testing import Harness

ns = Namespace("b")


@ns.mutation
async def note(ctx: MutationCtx) -> None:
    await ctx.db.execute("INSERT INTO notes VALUES ('x')")


def make(path: Path) -> App:
    app = App(path, namespaces=[ns])
    app.schema("CREATE TABLE notes (text TEXT)")
    return app


async def test_a_running_app_is_copied_and_the_copy_runs_on(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with Harness(make(tmp_path / "app.db")) as h:
        await h.call(note)
        job = await h.scheduler.run_after(60, note.bind())
        made = await h.app.backup(copy)
        assert (made.path, made.jobs) == (copy, 1)
        with pytest.raises(InvalidArgs, match="is there already; overwrite=True replaces it"):
            await h.app.backup(copy)
        await h.app.backup(str(copy), overwrite=True)
    async with Harness(make(copy), db=copy) as again:
        await again.advance(minutes=2)
        assert (await again.scheduler.get(job)).state == "success"  # type: ignore[union-attr]
    report = doctor(copy)
    assert [problem for problem in report.problems if problem.severity == "error"] == []
    assert "success" in report.render()


async def test_a_copy_under_way_is_given_up_when_the_app_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop does not wait for it, leaves no log behind, and whoever asked for the copy is told."""
    began, path = asyncio.Event(), tmp_path / "app.db"
    loop = asyncio.get_running_loop()

    def endless(source: Path, target: Path, *, overwrite: bool, stop: Callable[[], bool]) -> Backup:
        def held() -> bool:
            loop.call_soon_threadsafe(began.set)
            while not stop():  # a disk that is slow for as long as it may be
                pass
            return True

        return real(source, target, overwrite=overwrite, stop=held)

    real = backup.backup
    monkeypatch.setattr(backup, "backup", endless)
    app = make(path)
    async with app:
        await app.call(note)
        copying = asyncio.ensure_future(app.backup(tmp_path / "copy.db"))
        await asyncio.wait_for(began.wait(), 10)
    with pytest.raises(NotStarted, match="stopped while it was being copied"):
        await copying
    assert sorted(place.name for place in tmp_path.iterdir()) == ["app.db", "app.db-lock"]


async def test_a_file_that_was_replaced_is_not_copied(tmp_path: Path) -> None:
    """What stands under the name is not what the app works on (trap T4)."""
    path = tmp_path / "app.db"
    async with Harness(make(path), db=path) as h:
        path.rename(tmp_path / "moved.db")
        path.touch()
        with pytest.raises(StoreUnavailable, match="replaced"):
            await h.app.backup(tmp_path / "copy.db")
        (tmp_path / "moved.db").rename(path)


async def test_an_app_that_does_not_run_is_not_copied(tmp_path: Path) -> None:
    with pytest.raises(NotStarted):
        await make(tmp_path / "app.db").backup(tmp_path / "copy.db")
