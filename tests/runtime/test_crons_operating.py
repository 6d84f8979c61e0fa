"""What operators do with crons: the brake, the way back after a clock was wrong, and pages of what became of ticks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.times import from_datetime
from runtime import ActionCtx, App, CronRun, Every, MutationCtx, Namespace
from runtime.testing import START, Harness

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def make() -> tuple[App[Any], list[str]]:
    """Return an app and what has run in it."""
    ns, ran = Namespace[Any]("ops"), list[str]()

    @ns.mutation
    async def quick(ctx: MutationCtx, *, who: str = "quick") -> None:
        ran.append(who)

    @ns.action
    async def slow(ctx: ActionCtx) -> None:
        ran.append("slow")
        await ctx.sleep(30)

    return App("app.db", namespaces=[ns]), ran


async def test_a_pause_stops_what_waits_as_well(tmp_path: Path) -> None:
    """Ten missed ticks are replayed one by one; the pause lets the one that runs end, and no other begin."""
    app, ran = make()
    app.crons.interval("a", "ops:slow", minutes=1, missed_tick_policy="all")
    async with Harness(app, db=tmp_path / "app.db") as h:
        await h.restart(down_for=600)
        await h.settle()
        begun = len(ran)
        await h.crons.pause("a", note="stop")
        await h.restart()
        await h.advance(minutes=20)
        assert len(ran) == begun
        runs = await h.crons.runs("a")
        assert sum(run.ticks for run in runs if run.reason == "paused") >= 8
        await h.crons.resume("a")
        await h.advance(minutes=1)
        assert len(ran) > begun


@pytest.mark.parametrize("kind", ["code", "runtime"])
async def test_after_a_wrong_clock_a_resume_counts_from_now(kind: str) -> None:
    """The clock was a year ahead, and was set back: the cron says that it waits, and goes on when it is told to."""
    app, ran = make()
    if kind == "code":
        app.crons.cron("c", "0 * * * *", "ops:quick")
    async with Harness(app) as h:
        if kind == "runtime":
            await h.crons.register("c", Every(hours=1), "ops:quick")
        await h.advance(hours=3)
        right_us = from_datetime(h.now)
        h.clock.move_to(right_us + 365 * 86_400_000_000)
        await h.settle()
        h.clock.step(-365 * 86_400_000_000)
        await h.settle()
        info = await h.crons.get("c")
        assert info is not None
        assert info.trouble is not None
        assert "the clock was set back" in info.trouble
        ran.clear()
        await h.advance(hours=5)
        assert ran == []
        await h.crons.resume("c")
        info = await h.crons.get("c")
        assert info is not None
        assert info.trouble is None
        await h.advance(hours=5)
        assert len(ran) == 5
        ticks = [run.tick for run in await h.crons.runs("c", limit=1000) if run.state != "skipped"]
        assert len(ticks) == len(set(ticks))


async def test_what_became_of_ticks_comes_in_pages_and_adds_up() -> None:
    """Each tick stands in one row; a run by hand stands where it was asked for, and is no tick."""
    app, _ = make()
    app.crons.interval("c", "ops:quick", minutes=1)
    async with Harness(app) as h:
        await h.advance(minutes=10)
        by_hand = await h.crons.run_now("c", scheduled_at=START - DAY)
        await h.restart(down_for=3_600)
        await h.settle()
        whole = list(await h.crons.runs("c", limit=1000))
        assert by_hand in {run.job_id for run in whole[:4]}
        assert sum(run.ticks for run in whole) == 71
        pages: list[CronRun] = []
        before = None
        while page := await h.crons.runs("c", limit=5, before=before):
            pages.extend(page)
            before = page[-1].tick
        assert [run for run in pages if not run.manual] == [run for run in whole if not run.manual]
        everything: list[CronRun] = list(await h.crons.runs(limit=1000))
        assert sum(run.ticks for run in everything) == 71


async def test_a_cron_is_shown_with_its_rule() -> None:
    """What was said when it was defined can be read back, without looking into its internals."""
    app, _ = make()
    app.crons.interval(
        "c", "ops:quick", minutes=1, missed_tick_policy="all", max_catch_up_ticks=7, max_catch_up_age="90m",
        overlap="queue", jitter="5s", description="sweeps",
    )  # fmt: skip
    async with Harness(app) as h:
        info = await h.crons.get("c")
        assert info is not None
        assert (info.missed_tick_policy, info.max_catch_up_ticks, info.overlap) == ("all", 7, "queue")
        assert (info.max_catch_up_age, info.jitter) == (timedelta(minutes=90), timedelta(seconds=5))
        assert (info.enabled, info.clock, info.description) == (True, "internal", "sweeps")


async def test_an_attempt_that_died_has_no_duration(tmp_path: Path) -> None:
    """Nobody knows when it ended; the downtime is not a part of it."""
    app, _ = make()
    app.crons.interval("c", "ops:slow", hours=1)
    async with Harness(app, db=tmp_path / "app.db") as h:
        await h.restart(down_for=60)
        (run,) = await h.crons.runs("c")
        assert (run.state, run.duration) == ("failed", None)
