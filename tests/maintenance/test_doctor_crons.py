"""What the doctor says of crons: those that can't go on, wait for the wrong moment, or have ticks that don't add up."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actor_scheduler.crons.catchup import CatchUp
from actor_scheduler.crons.schedule import Cron, Every
from actor_scheduler.store.cron_units import DispatchCron, PauseCron, PutCron, StageCrons
from actor_scheduler.store.sqlite import SqliteStore, doctor_crons
from actor_scheduler.store.sqlite.doctor import Report, doctor
from actor_scheduler.store.sqlite.thread import InlineDb
from actor_scheduler.testing.bench import opened
from actor_scheduler.testing.clock import START_US
from actor_scheduler.testing.cron_bench import HOUR, MINUTE, CronBench, cron
from tests.maintenance.files import copy_of, run
from tests.zones import zones_in

NOW_US = START_US + 62 * MINUTE
DAY_US = 24 * HOUR


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room: no report depends on the machine the tests run on."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))


async def made(path: Path) -> Path:
    """Make a closed file in which crons of every kind have fired, dropped, been changed and paused."""
    async with opened(lambda host, clock: SqliteStore(path, host, clock, lock_timeout_us=0, make_db=InlineDb)) as bench:
        crons = CronBench(bench)
        await crons.do(
            StageCrons([cron("code"), cron("Digest", Cron("30 * * * *", tz="Asia/Kolkata"))], activate=True),
            PutCron(cron("five", rule=CatchUp("all", max_ticks=3, overlap="queue"))),
            PutCron(cron("every", Every(minutes=7), jitter_us=90_000_000)),
            PutCron(cron("skip", rule=CatchUp("skip"))),
            PutCron(cron("out", clock="external")),
            PutCron(cron("off", enabled=False)),
            PutCron(cron("held")),
            PauseCron("held", "for the \x1b[2J move"),
        )
        for minute in (1, 12, 31):
            await crons.fire(minute * MINUTE)
            if minute > 1:
                await crons.run()
        await crons.do(DispatchCron("out", None), PutCron(cron("five", Cron("*/6 * * * *"))))
        await crons.do(
            StageCrons(
                [cron("code", Cron("*/9 * * * *")), cron("Digest", Cron("30 * * * *", tz="Asia/Kolkata"))],
                activate=True,
            )
        )
        await crons.do(StageCrons([cron("code")], activate=False))
        await crons.fire(60 * MINUTE)
    return path


def said(report: Report, severity: str) -> list[str]:
    """Return what a report says at one severity of crons."""
    return [problem.what for problem in report.problems if problem.severity == severity and "cron" in problem.what]


def warns(path: Path, *parts: str) -> None:
    """Require exactly one warning of crons, with these parts, and no error."""
    report = doctor(path, NOW_US)
    (what,) = said(report, "warning")
    assert all(part in what for part in parts), what
    assert report.ok
    assert "\x1b" not in report.render()


async def test_a_sound_file_has_no_warnings(tmp_path: Path) -> None:
    """Whatever its crons went through; what waits or is paused is told."""
    report = doctor(await made(tmp_path / "app.db"), NOW_US)
    assert (said(report, "error"), said(report, "warning")) == ([], [])
    assert report.facts["crons"] == "8: 5 wait for a tick, 1 are paused, 0 are in trouble"
    assert report.facts["cron manifest"] == "version 2"
    notes = said(report, "note")
    assert "1 crons are paused; the first is 'held': for the \\u001b[2J move" in notes
    assert "cron manifest 3 waits to be activated" in notes
    assert doctor(tmp_path / "app.db", NOW_US + 30 * DAY_US).ok


async def test_what_is_due_waits_for_a_start_and_not_for_an_app_that_runs(tmp_path: Path) -> None:
    """Of a closed file it is a note; a running app should have fired it."""
    path = await made(tmp_path / "app.db")
    report = doctor(path, NOW_US + HOUR)
    assert any("5 crons are due; the longest is" in what for what in said(report, "note"))
    assert said(report, "warning") == []
    async with opened(lambda host, clock: SqliteStore(path, host, clock, lock_timeout_us=0, make_db=InlineDb)):
        (what,) = said(doctor(path, NOW_US + HOUR), "warning")
        assert "5 crons are due" in what
        assert said(doctor(path, START_US + 60 * MINUTE), "warning") == []


SET = "UPDATE _scheduler_crons SET"
WRONG = {
    "missing": (f"{SET} tick_us = NULL, fire_at_us = NULL WHERE name = 'skip'", "'skip' waits for nothing, though it is to fire at 2026-01-01 01:05"),
    "too early": (f"{SET} fire_at_us = fire_at_us - 1 WHERE name = 'every'", "'every' waits for", "though it is to fire at 2026"),
    "another tick": (f"{SET} tick_us = tick_us - 1 WHERE name = 'skip'", "'skip' waits for"),
    "paused": (f"{SET} paused_at_us = 1 WHERE name = 'skip'", "'skip' waits for", "though nothing of it is to fire"),
    "external": (f"{SET} fire_at_us = 1, tick_us = 1 WHERE name = 'out'", "'out' waits for 1970", "though nothing"),
    "two": (f"{SET} tick_us = NULL, fire_at_us = NULL, trouble = 'so' WHERE name IN ('skip', 'every')", "'every' (and 1 more) can't go on: so"),
    "ahead": (f"{SET} watermark_us = {NOW_US + 2 * HOUR} WHERE name = 'out'", "'out' is accounted for up to 2026-01-01 03:02:00+00:00, which is yet to come"),
    "far ahead": (f"{SET} watermark_us = {(1 << 63) - 1} WHERE name = 'out'", "'out' is accounted for up to 9999"),
    "unreadable": (f"{SET} spec = x'0011' WHERE name = 'skip'", "'skip' can't be read", "format 00"),
    "origin": (f"{SET} origin = 'moon' WHERE name = 'skip'", "'skip' is of unknown origin (moon)"),
    "set back": (f"{SET} watermark_us = {START_US + 8 * MINUTE} WHERE name = 'out'", "'out' has a run of a tick after its watermark"),
    "count": ("UPDATE _scheduler_skips SET ticks = ticks + 1 WHERE cron = 'skip'", "'skip' has a record with a wrong number of ticks"),
    "no ticks": ("INSERT INTO _scheduler_skips VALUES (NULL, 'gone', 'cap', 10, 20, 0, 1)", "'gone' has a record", "contradicts itself"),
    "backwards": ("INSERT INTO _scheduler_skips VALUES (NULL, 'gone', 'cap', 30, 20, 2, 1)", "'gone' has a record", "contradicts itself"),
    "twice": ("INSERT INTO _scheduler_skips SELECT NULL, 'gone', 'cap', 10, 30, 3, 1 UNION ALL SELECT NULL, 'gone', 'age', 20, 20, 1, 1", "'gone' has two records of the same ticks"),
    "within": ("INSERT INTO _scheduler_skips SELECT NULL, 'gone', 'cap', at, at + 2, 2, 1 FROM (SELECT 10 AS at UNION SELECT 12)", "'gone' has two records"),
    "ran": ("INSERT INTO _scheduler_skips SELECT NULL, cron, 'cap', tick_us, tick_us, 1, 1 FROM _scheduler_jobs WHERE cron = 'out'", "'out' has a run of a tick that is also on record as skipped"),
    "two active": ("UPDATE _scheduler_manifests SET state = 'active' WHERE version = 1", "2 cron manifests are active at once: 1, 2"),
    "two staged": ("UPDATE _scheduler_manifests SET state = 'staged' WHERE version = 1", "2 cron manifests wait to be activated at once"),
    "state": ("UPDATE _scheduler_manifests SET state = 'lost' WHERE version = 1", "cron manifests are in unknown states: lost"),
    "definitions": ("UPDATE _scheduler_manifests SET definitions = x'01' WHERE version = 1", "cron manifest 1 can't be read"),
    "not there": ("DELETE FROM _scheduler_crons WHERE name = 'Digest'", "'Digest' is not there, but cron manifest 2 holds, which it defines"),
    "not defined": (f"{SET} origin = 'manifest' WHERE name = 'skip'", "'skip' is there, but cron manifest 2 holds, which it does not define"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
async def test_one_wrong_thing_is_one_warning(what: str, tmp_path: Path) -> None:
    """Each names the cron, and the app could start all the same."""
    sql, *parts = WRONG[what]
    run(await made(tmp_path / "app.db"), sql)
    warns(tmp_path / "app.db", *parts)


async def test_a_zone_with_other_rules_here_is_not_held_against_the_crons(tmp_path: Path) -> None:
    """The next start computes them anew; of one that is not known here, that is said."""
    path = tmp_path / "app.db"
    with zones_in(tmp_path / "zoneinfo") as zones:
        zones.put("Test/A", "Europe/Paris")
        async with opened(
            lambda host, clock: SqliteStore(path, host, clock, lock_timeout_us=0, make_db=InlineDb)
        ) as bench:
            await bench.run(PutCron(cron("c", Cron("0 9 * * *", tz="Test/A"))))
        zones.put("Test/A", "Asia/Tokyo")
        assert said(doctor(path, NOW_US), "warning") == []
        zones.remove("Test/A")
        warns(path, "'c' is in a time zone that is not known here")


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_earlier_release_has_no_crons_to_miss(version: int, tmp_path: Path) -> None:
    """Its tables are those of its time: none is missing."""
    report = doctor(copy_of(version, tmp_path / "app.db"), NOW_US)
    assert not any("missing" in problem.what for problem in report.problems)
    assert "crons" not in report.facts


async def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    """Of crons as of jobs."""
    path = await made(tmp_path / "app.db")
    run(path, "DROP TABLE _scheduler_skips")
    report = doctor(path, NOW_US)
    assert any("tables of the scheduler are missing: _scheduler_skips" in problem.what for problem in report.problems)
    assert report.facts["cron manifest"] == "version 2"


async def test_of_very_many_crons_some_are_only_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that is said."""
    path = await made(tmp_path / "app.db")
    monkeypatch.setattr(doctor_crons, "CRONS_LOOKED_INTO", 3)
    run(path, f"{SET} fire_at_us = 7 WHERE name = 'held'")
    report = doctor(path, NOW_US)
    assert said(report, "warning") == []
    assert "5 more crons were counted, and not looked into" in said(report, "note")


numbers = st.sampled_from([-(1 << 63), -1, 0, 1, START_US, NOW_US, 1 << 62, (1 << 63) - 1])
columns = st.sampled_from([
    ("crons", "anchor_us"), ("crons", "watermark_us"), ("crons", "tick_us"), ("crons", "fire_at_us"),
    ("crons", "skipped"), ("crons", "paused_at_us"), ("crons", "created_at_us"), ("crons", "changed_at_us"),
    ("skips", "first_tick_us"), ("skips", "last_tick_us"), ("skips", "ticks"), ("skips", "recorded_at_us"),
    ("manifests", "staged_at_us"), ("manifests", "activated_at_us"), ("jobs", "tick_us"),
])  # fmt: skip
texts = st.sampled_from([
    ("crons", "name"), ("crons", "origin"), ("crons", "zone"), ("crons", "note"), ("crons", "trouble"),
    ("skips", "cron"), ("skips", "reason"), ("manifests", "state"), ("manifests", "digest"), ("jobs", "cron"),
])  # fmt: skip
garbage = st.sampled_from([b"", b"\xff\xfe\x1b[2J", b"\x00", b"x" * 1_000])


@given(
    changes=st.lists(st.tuples(columns, numbers), max_size=4),
    spoiled=st.lists(st.tuples(texts, garbage), max_size=2),
    spec=st.one_of(st.none(), st.binary(max_size=40)),
)
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_damage_gives_a_report(
    changes: list[Any], spoiled: list[Any], spec: bytes | None, tmp_path: Path
) -> None:
    """Never an error of the doctor's own, nor a character that a terminal would obey."""
    sound, path = tmp_path / "sound.db", tmp_path / "app.db"
    if not sound.exists():
        await made(sound)
    shutil.copyfile(sound, path)
    path.chmod(0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for (table, column), number in changes:
            file.execute(f"UPDATE OR IGNORE _scheduler_{table} SET {column} = ?", (number,))
        for (table, column), text in spoiled:
            file.execute(f"UPDATE OR IGNORE _scheduler_{table} SET {column} = CAST(? AS TEXT)", (text,))
        if spec is not None:
            file.execute("UPDATE _scheduler_crons SET spec = ?", (spec,))
            file.execute("UPDATE _scheduler_manifests SET definitions = ?", (spec,))
    report = doctor(path, NOW_US)
    assert report.facts["quick check"] == "ok"
    assert not any("can't be read" in problem.what for problem in report.problems if problem.severity == "error")
    assert "\x1b" not in report.render()
