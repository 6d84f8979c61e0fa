"""V4, V5: the code's crons change between two processes, or an app changes them: schedule, removed, renamed, back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.crons.schedule import Cron
from actor_scheduler.limits import SECOND_US
from actor_scheduler.testing.clock import START_US
from actor_scheduler.times import to_datetime
from runtime import ActionCtx, Namespace
from tests.faults.rig import Rig, make

MINUTE_US = 60 * SECOND_US
YEAR = 365 * 24 * 60  # minutes


class Lives:
    """Processes one after the other on one file, whose code defines these crons."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.ran: list[tuple[str, float]] = []
        self._now_us = START_US

    def next(self, down: float = 0, **crons: str) -> Rig:
        """Return the next process's app, which starts so many minutes after the last one ended."""
        ns: Namespace[Any] = Namespace("v")
        rig = make(self._path, ns, grace=0)

        @ns.action(access="system")
        async def work(ctx: ActionCtx[Any], *, seconds: float = 0) -> None:
            self.ran.append((ctx.invoker.cron, self._minutes(rig.clock.now_us())))  # type: ignore[union-attr]
            await ctx.sleep(seconds)

        for name, expr in crons.items():
            rig.app.crons.cron(name, expr, "v:work")
        rig.clock.step(self._now_us - rig.clock.now_us() + round(down * MINUTE_US))
        return rig

    async def run(self, minutes: float, down: float = 0, **crons: str) -> list[tuple[str, float]]:
        """Live for so long, and return what ran."""
        self.ran.clear()
        async with self.next(down, **crons) as rig:
            await rig.pass_time(minutes * 60)
            self.ended(rig)
        return list(self.ran)

    def ended(self, rig: Rig) -> None:
        """Remember when a process ended."""
        self._now_us = rig.clock.now_us()

    @staticmethod
    def _minutes(moment_us: int) -> float:
        return (moment_us - START_US) / MINUTE_US


async def history(rig: Rig, name: str) -> list[tuple[Any, ...]]:
    """Return what became of a cron's ticks, oldest first."""
    runs = await rig.app.crons.runs(name)
    start = to_datetime(START_US)
    return [
        (run.reason or run.state, (run.first_tick - start) / timedelta(minutes=1), run.skipped if run.reason else 0)
        for run in reversed(runs)
    ]


async def test_V4_a_changed_expression_counts_from_the_change(path: Path) -> None:
    """No tick of the old rule fires any more, none of the new one before the change; the history says what was due."""
    lives = Lives(path)
    assert await lives.run(12, c="*/5 * * * *") == [("c", 5), ("c", 10)]
    assert await lives.run(15, down=11, c="*/8 * * * *") == [("c", 24), ("c", 32)]
    async with lives.next(0, c="*/8 * * * *") as rig:
        assert await history(rig, "c") == [
            ("success", 5, 0), ("success", 10, 0), ("stale_manifest", 15, 2), ("success", 24, 0), ("success", 32, 0),
        ]  # fmt: skip


async def test_V4_a_run_that_is_under_way_finishes(path: Path) -> None:
    """The schedule changes under it, at run time; the one that waited behind it does not start."""
    lives = Lives(path)
    async with lives.next() as rig:
        crons = rig.app.crons
        await crons.register(
            "c", Cron("*/5 * * * *"), "v:work", {"seconds": 480}, overlap="queue", max_catch_up_ticks=9
        )
        await rig.pass_time(11 * 60)
        await crons.update("c", schedule=Cron("*/7 * * * *"))
        await rig.pass_time(11 * 60)
        assert await history(rig, "c") == [
            ("success", 5, 0),
            ("stale_manifest", 10, 1),
            ("success", 14, 0),
            ("in_progress", 21, 0),
        ]


@pytest.mark.parametrize("back_after", [0, 30, YEAR])
async def test_V5_a_removed_cron_is_silent_and_starts_anew_when_it_is_back(path: Path, back_after: int) -> None:
    """What was due when it was removed is stale; nothing of the time without it is caught up."""
    lives = Lives(path)
    assert await lives.run(7, c="*/5 * * * *", d="*/5 * * * *") == [("c", 5), ("d", 5)]
    ran = await lives.run(10, down=6, d="*/5 * * * *")
    assert [name for name, _ in ran] == ["d"] * len(ran)
    back = 23 + back_after
    ran = await lives.run(6, down=back_after, c="*/5 * * * *")
    assert ran == [("c", at) for at in range(back // 5 * 5 + 5, back + 7, 5)]
    async with lives.next(0, c="*/5 * * * *") as rig:
        found = await history(rig, "c")
        assert found[:2] == [("success", 5, 0), ("stale_manifest", 10, 1)]
        assert found[2:] == [("success", at, 0) for _, at in ran]
        assert await rig.app.crons.get("d") is None


async def test_V5_a_removed_cron_s_waiting_occurrence_does_not_start(path: Path) -> None:
    """The one that is under way finishes; the one that waited behind it is canceled, and on record as stale."""
    lives = Lives(path)
    async with lives.next() as rig:
        crons = rig.app.crons
        await crons.register("c", Cron("*/5 * * * *"), "v:work", {"seconds": 480}, overlap="queue")
        await rig.pass_time(11 * 60)
        assert await history(rig, "c") == [("in_progress", 5, 0), ("pending", 10, 0)]
        assert await crons.delete("c") is True
        await rig.pass_time(20 * 60)
        assert await history(rig, "c") == [("success", 5, 0), ("stale_manifest", 10, 1)]
        assert lives.ran == [("c", 5)]


async def test_V5_a_renamed_cron_is_a_new_one(path: Path) -> None:
    """It counts from its first start; the old name's history stays, and its missed ticks are not run under the new."""
    lives = Lives(path)
    assert await lives.run(7, old="*/5 * * * *") == [("old", 5)]
    assert await lives.run(6, down=20, new="*/5 * * * *") == [("new", 30)]
    async with lives.next(0, new="*/5 * * * *") as rig:
        assert await history(rig, "old") == [("success", 5, 0), ("stale_manifest", 10, 4)]
        assert await history(rig, "new") == [("success", 30, 0)]


async def test_V5_an_interval_that_is_back_runs_at_once(path: Path) -> None:
    """Its first run is at its activation, as the first time; unchanged over restarts it keeps its anchor."""
    lives = Lives(path)
    async with lives.next() as rig:
        await rig.app.crons.register("i", Cron("*/5 * * * *"), "v:work")
        await rig.app.crons.delete("i")
    rig = lives.next()
    rig.app.crons.interval("i", "v:work", minutes=10)
    async with rig:
        await rig.pass_time(3 * 60)
        await rig.restart()
        await rig.pass_time(8 * 60)
    assert lives.ran == [("i", 0), ("i", 10)]
