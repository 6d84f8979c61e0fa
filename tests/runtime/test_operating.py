"""What an operator, and a test of routes, rely on."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from runtime import ActionCtx, App, FunctionError, KeyConflict, MutationCtx, StoreUnavailable
from runtime.testing import Harness


@pytest.fixture
def app(tmp_path: Path) -> App[Any]:
    """An app with functions that go wrong in different ways."""
    app: App[Any] = App(tmp_path / "app.db")
    ns = app.namespace("w")

    @ns.mutation
    async def breaks(ctx: MutationCtx) -> None:
        raise ValueError("broken")

    @ns.action
    async def breaks_outside(ctx: ActionCtx) -> None:
        raise OSError("no route")

    @ns.action
    async def refuses(ctx: ActionCtx) -> None:
        raise FunctionError("NO_CARD", "the card was declined")

    @ns.action
    async def cancels_its_own(ctx: ActionCtx) -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    @ns.mutation
    async def same_key(ctx: MutationCtx) -> None:
        await ctx.scheduler.run_after(5, "w:breaks", idempotency_key="K")

    return app


async def test_a_failed_job_is_logged(app: App[Any], caplog: pytest.LogCaptureFixture) -> None:
    """An error with its traceback, a failure on purpose in one line: nothing fails in silence."""
    async with Harness(app) as h:
        for path in ("w:breaks", "w:breaks_outside", "w:refuses"):
            await h.scheduler.run_now(path)
        await h.settle()
    said = {record.getMessage().split()[0]: record for record in caplog.records if " failed" in record.getMessage()}
    assert {path: record.levelno for path, record in said.items()} == {
        "w:breaks": logging.ERROR, "w:breaks_outside": logging.ERROR, "w:refuses": logging.WARNING,
    }  # fmt: skip
    assert 'raise ValueError("broken")' in said["w:breaks"].getMessage()
    assert "Traceback" not in said["w:refuses"].getMessage()


async def test_an_action_that_cancels_a_task_of_its_own_has_failed_itself(app: App[Any]) -> None:
    """Nobody shut the app down, so the cause is the function's error, not an interruption."""
    async with Harness(app) as h:
        await h.scheduler.run_now("w:cancels_its_own")
        (job,) = await h.settle()
        assert (job.state, job.cause) == ("failed", "error")


async def test_a_call_whose_job_takes_its_own_idempotency_key_is_a_key_conflict(app: App[Any]) -> None:
    """One key stands for one thing; nothing of the call is kept."""
    async with Harness(app) as h:
        with pytest.raises(KeyConflict):
            await h.app.idempotent("K").call("w:same_key")
        assert await h.scheduler.list().count() == 0


async def test_a_framework_may_enter_the_lifespan_inside_a_harness(app: App[Any]) -> None:
    """Routes are tested on the harness's virtual clock, whether or not the test client runs the lifespan."""
    api = FastAPI(lifespan=app.lifespan)

    @api.get("/jobs")
    async def jobs() -> int:
        return await app.scheduler.list().count()

    async with Harness(app) as h:
        async with api.router.lifespan_context(api):
            transport = httpx.ASGITransport(app=api)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await h.scheduler.run_after(60, "w:breaks")
                assert (await client.get("/jobs")).json() == 1
        assert [job.path for job in await h.advance(60)] == ["w:breaks"]


async def test_a_lock_file_that_is_removed_stops_the_owner(app: App[Any], tmp_path: Path) -> None:
    """Without it a second process would take the file as free, so the owner goes on with nothing."""
    async with app:
        await app.scheduler.run_after(60, "w:breaks")
        lock = tmp_path / "app.db-lock"
        lock.rename(tmp_path / "aside")
        with pytest.raises(StoreUnavailable, match="app.db-lock was removed or replaced"):
            await app.scheduler.run_after(60, "w:breaks")
        (tmp_path / "aside").rename(lock)


async def test_no_argument_of_a_job_gets_into_a_debug_log(app: App[Any], caplog: pytest.LogCaptureFixture) -> None:
    """With every logger at DEBUG, what is stored is not shown."""
    caplog.set_level(logging.DEBUG)
    async with app:
        await app.scheduler.run_after(60, "w:breaks", key="secret-key")
    assert "secret-key" not in caplog.text
