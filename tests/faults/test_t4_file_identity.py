"""T4, D11: the file is deleted or replaced under the running app. It stops, with one clear sentence."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import StoreUnavailable
from runtime import ActionCtx, Namespace
from tests.faults.rig import make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.rig import Rig


def counting(started: list[str]) -> Namespace[Any]:
    """Return an action that notes its starts."""
    ns: Namespace[Any] = Namespace("a")

    @ns.action
    async def act(ctx: ActionCtx[Any]) -> None:
        started.append(ctx.idempotency_key)

    return ns


async def harm(rig: Rig, path: Path, how: str) -> str:
    """Take the file away, and return what must be said of it."""
    if how == "deleted":
        path.unlink()
        return "is gone"
    if how == "moved":
        path.rename(path.with_name("moved.db"))
        return "is gone"
    other = path.with_name("other.db")
    shutil.copy(__file__, other)
    other.replace(path)
    return "was replaced"


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
async def test_T4_nothing_is_acknowledged_or_started_without_the_file(path: Path, db: Any, how: str) -> None:
    """Calls and schedules are refused with one sentence, due jobs do not start, however long it lasts."""
    started: list[str] = []
    async with make(path, counting(started), db=db) as rig:
        await rig.app.scheduler.run_after(5, "a:act")
        said = await harm(rig, path, how)
        answers = await rig.together(rig.call("l:put", who="a"), rig.app.scheduler.run_now("a:act"))
        for answer in answers:
            assert type(answer) is StoreUnavailable
            assert said in str(answer)
            assert str(path) in str(answer)
            assert "\n" not in str(answer)
        await rig.pass_time(120)
        assert started == []
        assert isinstance(await rig.attempt("l:put", who="b"), StoreUnavailable)
        assert said in str(rig.actor.broken)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_T4_a_due_job_alone_notices_that_the_file_is_gone(path: Path, how: str) -> None:
    """Without any caller, the alarm's own turn finds it out before it starts anything."""
    started: list[str] = []
    async with make(path, counting(started)) as rig:
        await rig.app.scheduler.run_after(5, "a:act")
        said = await harm(rig, path, how)
        await rig.pass_time(6)
        assert started == []
        assert said in str(rig.actor.broken)


async def test_T4_the_app_goes_on_when_its_own_file_is_back(path: Path) -> None:
    """Moved away and back: the same file is trusted again, and the due job starts once."""
    started: list[str] = []
    async with make(path, counting(started)) as rig:
        job_id = await rig.app.scheduler.run_after(5, "a:act")
        await harm(rig, path, "moved")
        await rig.pass_time(30)
        assert started == []
        path.with_name("moved.db").rename(path)
        await rig.pass_time(10)
        assert started == [job_id]
        assert (await rig.job(job_id)).state == "success"
