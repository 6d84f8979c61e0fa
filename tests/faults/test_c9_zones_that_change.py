"""C9: time zones whose rules change between two processes, or that a machine does not know for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.crons.schedule import Cron
from actor_scheduler.errors import InvalidCron
from actor_scheduler.limits import SECOND_US
from actor_scheduler.testing.clock import START_US
from runtime import MutationCtx, Namespace
from tests.faults.rig import Rig, make
from tests.zones import Zones, zones_in

HOUR_US = 3_600 * SECOND_US
PARIS, TOKYO = 8, 24  # hours after the start at which nine o'clock comes there


@pytest.fixture
def zones(tmp_path: Path) -> Iterator[Zones]:
    """A zone of this test only, with the rules of Paris."""
    with zones_in(tmp_path / "zoneinfo") as zones:
        zones.put("Test/Zone", "Europe/Paris")
        yield zones


class Lives:
    """Processes one after the other on one file, each with code of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.ran: list[float] = []  # hours after the start

    def next(self, before: Rig | None = None) -> Rig:
        """Return the next process's app; time goes on from that of the one before."""
        ns: Namespace[Any] = Namespace("d")
        rig = make(self._path, ns)

        @ns.mutation(access="system")
        async def digest(ctx: MutationCtx[Any]) -> None:
            self.ran.append((rig.clock.now_us() - START_US) / HOUR_US)

        if before is not None:
            rig.clock.step(before.clock.now_us() - rig.clock.now_us())
        return rig


@pytest.mark.parametrize("at_run_time", [True, False])
async def test_C9_new_rules_hold_from_the_next_start_on(path: Path, zones: Zones, at_run_time: bool) -> None:
    """A digest at nine runs at nine of the new rules, also when the process before was the first to know the zone."""
    lives = Lives(path)

    def defined(rig: Rig) -> Rig:
        if not at_run_time:
            rig.app.crons.cron("Daily digest", "0 9 * * *", "d:digest", tz="Test/Zone")
        return rig

    first = defined(lives.next())
    async with first:
        if at_run_time:
            await first.app.crons.register("Daily digest", Cron("0 9 * * *", tz="Test/Zone"), "d:digest")
        await first.pass_time(3_600)
    zones.put("Test/Zone", "Asia/Tokyo")
    async with defined(lives.next(first)) as second:
        await second.pass_time(47 * 3_600)
        assert lives.ran == [TOKYO, TOKYO + 24]
        assert all(run.state == "success" for run in await second.app.crons.runs("Daily digest"))


async def test_C9_an_unknown_zone_stops_its_crons_until_it_is_known_again(
    path: Path, zones: Zones, caplog: pytest.LogCaptureFixture
) -> None:
    """The app starts, says so and runs the others; later the cron goes on, by its policy, and nothing is lost."""
    lives = Lives(path)
    async with lives.next() as first:
        await first.app.crons.register("Daily", Cron("0 9 * * *", tz="Test/Zone"), "d:digest")
        await first.app.crons.register("other", Cron("30 * * * *"), "d:digest")
    zones.remove("Test/Zone")
    with caplog.at_level(logging.ERROR):
        second = lives.next(first)
        with pytest.raises(InvalidCron, match="Test/Zone"):
            second.app.crons.cron("new", "0 9 * * *", "d:digest", tz="Test/Zone")
        async with second:
            await second.pass_time(34 * 3_600)
            info = await second.app.crons.get("Daily")
            assert info is not None
            assert ("Test/Zone" in (info.trouble or ""), info.next_at) == (True, None)
            await second.app.crons.delete("other")
    assert "time zone Test/Zone is not known here (any more)" in caplog.text
    assert lives.ran == [0.5 + hour for hour in range(34)]
    lives.ran.clear()
    zones.put("Test/Zone", "Europe/Paris")
    async with lives.next(second) as third:
        await third.pass_time(23 * 3_600)
        assert lives.ran == [34, PARIS + 48]
        runs = await third.app.crons.runs("Daily")
        assert [(run.state, run.reason, run.skipped) for run in reversed(runs)] == [
            ("skipped", "policy", 1), ("success", None, 1), ("success", None, 0),
        ]  # fmt: skip


async def test_C9_the_zone_of_the_process_changes_nothing(
    path: Path, zones: Zones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever TZ is: a cron without a zone is of UTC, one with a zone is of that zone."""
    lives = Lives(path)
    monkeypatch.setenv("TZ", "America/New_York")
    first = lives.next()
    first.app.crons.cron("utc", "0 9 * * *", "d:digest")
    first.app.crons.cron("zone", "0 9 * * *", "d:digest", tz="Test/Zone")
    async with first:
        await first.pass_time(4 * 3_600)
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        await first.restart()
        await first.pass_time(20 * 3_600)
    assert lives.ran == [PARIS, 9]
