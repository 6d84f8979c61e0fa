"""`app.backup` and `doctor`, as an app's own code uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import App, InvalidArgs, MutationCtx, Namespace, NotStarted, doctor
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


async def test_an_app_that_does_not_run_is_not_copied(tmp_path: Path) -> None:
    with pytest.raises(NotStarted):
        await make(tmp_path / "app.db").backup(tmp_path / "copy.db")
