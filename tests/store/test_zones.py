"""Zones whose rules change between boots, or that are gone for a while: real files of zoneinfo, put in and taken out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.crons.catchup import CatchUp
from actor_scheduler.crons.schedule import Cron
from actor_scheduler.errors import UnknownZone
from actor_scheduler.model import CRONS
from actor_scheduler.store.base import RunDue
from actor_scheduler.store.cron_units import PauseCron, PutCron, ResumeCron, StageCrons
from actor_scheduler.testing.bench import refused
from actor_scheduler.testing.clock import START_US
from actor_scheduler.testing.cron_bench import HOUR, MINUTE, CronBench, cron
from tests.maintenance.files import run
from tests.zones import Zones, zones_in


@pytest.fixture
def zones(tmp_path: Path) -> Iterator[Zones]:
    """Zones of this test only."""
    with zones_in(tmp_path / "zoneinfo") as zones:
        yield zones


def nine(name: str, zone: str, **options: Any) -> Any:
    """Return a cron at nine in the morning of a zone."""
    return cron(name, Cron("0 9 * * *", tz=zone), **options)


def known(db: Path) -> set[str]:
    """Return the zones whose rules stand in the file."""
    with closing(sqlite3.connect(db)) as file:
        return {
            name for (name,) in file.execute("SELECT substr(name, 6) FROM _scheduler_meta WHERE name LIKE 'zone:%'")
        }


@pytest.mark.parametrize("boots", [1, 2, 3])
async def test_C9_new_rules_hold_from_the_next_boot_on(boots: int, open_bench: Any, zones: Zones) -> None:
    """Of every zone, however many boots have seen it, whatever the crons are called; the others keep their times."""
    for name in ("Test/A", "Test/B", "Test/C"):
        zones.put(name, "Europe/Paris")
    async with open_bench() as bench:
        crons = CronBench(bench)
        names = [f"{first} {zone}" for zone in "ABC" for first in ("Daily", "zzz", "~")]
        await crons.do(*[PutCron(nine(name, f"Test/{name[-1]}")) for name in names], PutCron(cron()))
        assert {await crons.waits_for(name) for name in names} == {8 * HOUR}
        for _ in range(boots - 1):
            await crons.restart()
        zones.put("Test/A", "America/New_York")
        zones.put("Test/C", "Asia/Tokyo")
        await crons.restart()
        waits = {"A": 14 * HOUR, "B": 8 * HOUR, "C": 24 * HOUR}
        assert {name: await crons.waits_for(name) for name in names} == {name: waits[name[-1]] for name in names}
        await crons.fire(24 * HOUR)
        assert [await crons.history(name) for name in names] == [
            [("pending", waits[name[-1]] // MINUTE)] for name in names
        ]


async def test_C9_a_boot_with_the_same_rules_writes_nothing_of_zones(open_bench: Any, db: Path, zones: Zones) -> None:
    """Nor does it compute anything: a row that says otherwise stays."""
    zones.put("Test/A", "Europe/Paris")
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(nine("c", "Test/A")))
        run(db, "UPDATE _scheduler_crons SET fire_at_us = fire_at_us + 7")
        for _ in range(3):
            zones.forget()
            await crons.restart()
        assert [entry.fire_at_us for entry in crons.index] == [START_US + 8 * HOUR + 7]


async def test_C9_a_zone_that_is_gone_takes_out_its_crons_until_it_is_known_again(
    open_bench: Any, zones: Zones, caplog: pytest.LogCaptureFixture
) -> None:
    """They say so, the others fire; then they go on, and what they missed is treated by their own policy."""
    zones.put("Test/A", "Europe/Paris")
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(
            PutCron(nine("latest", "Test/A")), PutCron(nine("skip", "Test/A", rule=CatchUp("skip"))), PutCron(cron()),
            PutCron(nine("paused", "Test/A")), PauseCron("paused", "why"),
        )  # fmt: skip
        zones.remove("Test/A")
        for _ in range(2):
            await crons.restart()
            for name in ("latest", "skip", "paused"):
                info = await crons.info(name)
                assert (info.next_at, info.spec) == (None, None)
                assert "Test/A" in (info.trouble or "")
        assert "time zone Test/A is not known here (any more)" in caplog.text
        assert [fired.cron for fired in await crons.fire(57 * HOUR) if fired] == ["c"]
        await refused(crons.do(ResumeCron("paused")), UnknownZone)
        zones.put("Test/A", "Europe/Paris")
        await crons.restart()
        assert [(await crons.info(name)).trouble for name in ("latest", "skip", "paused")] == [None] * 3
        assert len(crons.index) == 3
        await crons.fire(57 * HOUR)
        assert await crons.history("latest") == [("policy", 480, 1920, 2), ("pending", 3360)]
        assert await crons.history("skip") == [("policy", 480, 3360, 3)]
        assert await crons.history("paused") == []
        await crons.do(ResumeCron("paused"))
        assert await crons.history("paused") == [("paused", 480, 1920, 2), ("pending", 3360)]


async def test_C9_a_zone_that_was_gone_while_the_app_ran_is_found_again(open_bench: Any, zones: Zones) -> None:
    """Its rules are the same at both boots: that a cron fell out in between must not be forgotten."""
    zones.put("Test/A", "Europe/Paris")
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(nine("c", "Test/A")))
        await crons.restart()
        zones.remove("Test/A")
        assert await crons.fire(8 * HOUR) == [None]
        assert (await crons.info()).trouble
        zones.put("Test/A", "Europe/Paris")
        await crons.restart()
        await crons.fire(8 * HOUR)
        assert await crons.history() == [("pending", 480)]


async def test_C9_a_manifest_in_a_zone_that_is_known_again_goes_on(open_bench: Any, zones: Zones) -> None:
    """Staged again by the same code, in the same process that did not know it."""
    zones.put("Test/A", "Europe/Paris")
    async with open_bench() as bench:
        crons = CronBench(bench)
        manifest = StageCrons([nine("c", "Test/A"), cron("d")], activate=True)
        await crons.do(manifest)
        zones.remove("Test/A")
        await crons.restart()
        assert (await crons.info()).trouble
        zones.put("Test/A", "Europe/Paris")
        (staged,) = await crons.do(StageCrons([nine("c", "Test/A"), cron("d")], activate=True))
        assert (staged.version, staged.diff.updated, staged.diff.unchanged) == (1, ("c",), ("d",))
        assert ((await crons.info()).trouble, await crons.waits_for()) == (None, 8 * HOUR)


async def test_only_zones_in_use_are_remembered(open_bench: Any, db: Path, zones: Zones) -> None:
    """From the first cron in it to the boot that finds none; UTC and intervals have none."""
    zones.put("Test/A", "Europe/Paris")
    zones.put("Test/B", "Asia/Tokyo")
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(nine("c", "Test/A")), PutCron(nine("d", "UTC")))
        assert known(db) == {"Test/A"}
        await crons.do(PutCron(nine("c", "Test/B")))
        assert known(db) == {"Test/A", "Test/B"}
        await crons.restart()
        assert known(db) == {"Test/B"}


@pytest.mark.parametrize("text", [b"\xff\xfe", b"", b"\x00", b"../../etc/passwd", b"Europe", b"x" * 300])
async def test_R11_a_damaged_zone_does_not_keep_the_app_from_starting(text: bytes, open_bench: Any, db: Path) -> None:
    """Nor do damaged rules; the crons of other zones are computed."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(nine("Bad", "Asia/Tokyo")), PutCron(nine("good", "Europe/Paris")))
        with closing(sqlite3.connect(db)) as file, file:
            file.execute("UPDATE _scheduler_crons SET zone = CAST(? AS TEXT) WHERE name = 'Bad'", (text,))
            file.execute("UPDATE _scheduler_meta SET value = CAST(x'ff' AS TEXT) WHERE name LIKE 'zone:%'")
            file.execute("UPDATE _scheduler_crons SET fire_at_us = 7 WHERE name = 'good'")
        await bench.restart()
        await bench.restart()
        assert START_US + 8 * HOUR in [entry.fire_at_us for entry in await bench.entries(CRONS)]
        bench.clock.move_to(START_US + 8 * HOUR)
        await bench.run(*[RunDue(CRONS, entry) for entry in await bench.entries(CRONS)])
        assert await crons.history("good") == [("pending", 480)]
