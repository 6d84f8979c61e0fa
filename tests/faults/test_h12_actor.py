"""Row H12: the actor's own task ends. It starts again from the database, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from actor_scheduler.errors import OutcomeUnknown, StoreUnavailable
from runtime import ActionCtx, App, MutationCtx, Namespace
from runtime.testing import Harness

ns = Namespace("h12")


@ns.mutation
async def add(ctx: MutationCtx, *, n: int) -> None:
    await ctx.db.execute("INSERT INTO added VALUES (?)", [n])


@ns.action
async def slow(ctx: ActionCtx) -> str:
    await ctx.sleep(60)
    return "done"


def make(path: Path) -> App:
    app = App(path, namespaces=[ns])
    app.schema("CREATE TABLE added (n INTEGER)")
    return app


async def test_h12_a_canceled_actor_starts_again_and_keeps_every_promise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody cancels every task of the loop: jobs go on, and a running action keeps its claim."""
    async with Harness(make(tmp_path / "app.db")) as h:
        running = await h.scheduler.run_now(slow.bind())
        later = [await h.scheduler.run_after(n, add.bind(n=n)) for n in range(1, 6)]
        await h.settle()
        actor = h.app._running().actor
        with caplog.at_level(logging.CRITICAL):
            for _ in range(3):
                actor._task.cancel()  # type: ignore[union-attr]
                await h.advance(seconds=1)
        assert "the scheduler actor ended" in caplog.text
        await h.advance(minutes=2)
        assert {(await h.scheduler.get(job)).state for job in [running, *later]} == {"success"}
        async with asyncio.timeout(5):
            assert await h.call("h12:count") == 5


@ns.query
async def count(ctx):  # type: ignore[no-untyped-def]
    return await ctx.db.fetch_value("SELECT count(*) FROM added")


async def test_h12_a_call_in_the_turn_that_was_canceled_is_answered(tmp_path: Path) -> None:
    """On real threads: whoever waited gets `OutcomeUnknown` or its answer, never silence, and no half of it stands."""
    app = make(tmp_path / "app.db")
    async with app:
        actor = app._running().actor
        answers = []
        for n in range(50):
            call = asyncio.ensure_future(app.call(add, n=n))
            for _ in range(n % 4):
                await asyncio.sleep(0)
            actor._task.cancel()  # type: ignore[union-attr]
            try:
                async with asyncio.timeout(10):
                    await call
                answers.append((n, "done"))
            except (OutcomeUnknown, StoreUnavailable) as error:
                answers.append((n, type(error).__name__))
        async with asyncio.timeout(10):
            while app.unready_reason is not None:
                await asyncio.sleep(0)
        stored = await app.call("h12:count")
        done = sum(answer == "done" for _, answer in answers)
        unknown = sum(answer == "OutcomeUnknown" for _, answer in answers)
        assert done <= stored <= done + unknown
        assert len(answers) == 50
