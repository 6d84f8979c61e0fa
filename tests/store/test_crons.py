"""Crons in the file: what stands in one row is that cron's trouble only, and a turn is one transaction."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actor_scheduler import codec
from actor_scheduler.crons.catchup import CatchUp
from actor_scheduler.crons.schedule import Cron, Every
from actor_scheduler.errors import InvalidCron, LimitExceeded, StoreFull
from actor_scheduler.limits import CATCH_UP_TICKS_MAX
from actor_scheduler.model import CRONS, MUTATIONS, Entry
from actor_scheduler.store.base import Fired, InsertJobs, Mutate, Refused, RunDue, Tx
from actor_scheduler.store.cron_units import (
    ChangeCron,
    CronUnit,
    DeleteCron,
    DispatchCron,
    PauseCron,
    PutCron,
    ResumeCron,
    RunCron,
    StageCrons,
)
from actor_scheduler.testing import conformance
from actor_scheduler.testing.bench import NOTHING, SECOND, Bench, Boom, mutation, orphans, refused, writes
from actor_scheduler.testing.clock import START_US
from actor_scheduler.testing.cron_bench import EVERY_FIVE, MINUTE, CronBench, after, cron, refused_boom
from tests.maintenance.files import run

TABLES = ("_scheduler_crons", "_scheduler_skips", "_scheduler_jobs", "_scheduler_manifests", "_scheduler_meta")
HUGE = (1 << 63) - 1


def rows(db: Path) -> dict[str, list[Any]]:
    """Return what stands in our tables."""
    with closing(sqlite3.connect(db)) as file:
        file.text_factory = bytes
        return {name: file.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in TABLES}


def changes(bench: Bench) -> int:
    """Return how many rows this connection has written."""
    raw: sqlite3.Connection = bench.store._connection.raw  # type: ignore[attr-defined]
    return raw.total_changes


# ------------------------------------------------------------------ one turn, one transaction


async def test_a_fire_is_written_whole_or_not_at_all(open_bench: Any, db: Path) -> None:
    """Runs, records, watermark and next fire time are one transaction: nobody ever sees a part of it."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron(rule=CatchUp("all", max_ticks=2))))
        before = rows(db)
        seen: list[Any] = []
        bench.clock.move_to(START_US + 22 * MINUTE)
        raw = bench.store._connection.raw

        def look(_: str) -> None:
            seen.append(rows(db))

        raw.set_trace_callback(look)
        await crons.fire(22 * MINUTE)
        raw.set_trace_callback(None)
        assert len(seen) > 5
        states = [before, rows(db)]
        assert all(state in states for state in seen)
        written = states[1]
        assert [len(written[name]) for name in TABLES[:3]] == [1, 1, 2]


async def test_what_is_equal_writes_nothing(open_bench: Any, db: Path) -> None:
    """Registered, paused or resumed again, the same manifest a hundred times: not a row is written."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        specs = [cron("a", Cron("0 9 * * *", tz="Europe/Paris")), cron("b", Every(hours=1)), cron("off", enabled=False)]
        runtime = cron("r", Cron("0 9 * * *", tz="Asia/Tokyo"))
        await crons.do(StageCrons(specs, activate=True), PutCron(runtime), PutCron(cron("ext", clock="external")))
        await crons.fire(3 * MINUTE)
        before, count = rows(db), changes(bench)
        for at in range(100):
            bench.clock.move_to(START_US + (4 + at) * MINUTE)
            await crons.do(StageCrons(specs[::-1], activate=bool(at % 2)), PutCron(runtime), ResumeCron("r"))
        assert (rows(db), changes(bench)) == (before, count)


async def test_a_refused_change_has_written_nothing(open_bench: Any, db: Path) -> None:
    """Also in a mutation that catches the refusal and goes on."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron(rule=CatchUp("all", overlap="queue"))), StageCrons([cron("code")], activate=True))
        await crons.fire(10 * MINUTE)
        bench.clock.move_to(START_US + 17 * MINUTE)

        def fails(_: Any) -> Any:
            raise InvalidCron("no")

        endless = "x" * (2 << 20)
        units: list[tuple[CronUnit, type[Exception]]] = [
            (ChangeCron("c", fails), InvalidCron),
            (
                ChangeCron("c", lambda spec: spec._replace(schedule=Cron("7 * * * *"), description=endless)),
                LimitExceeded,
            ),
            (PutCron(cron("c", Cron("7 * * * *"), description=endless)), LimitExceeded),
            (PutCron(cron("new", description=endless)), LimitExceeded),
            (PutCron(cron("code", Cron("7 * * * *"))), InvalidCron),
            (DispatchCron("c", None), InvalidCron),
        ]
        before, index = rows(db), set(crons.index)

        async def goes_on(tx: Tx) -> None:
            for unit, error in units:
                with pytest.raises(error):
                    await tx.change_cron(unit)

        await crons.do(Mutate(goes_on))
        for unit, error in units:
            await refused(crons.do(unit), error)  # type: ignore[arg-type]
        after_all = rows(db)
        assert {name: after_all[name] for name in TABLES[:4]} == {name: before[name] for name in TABLES[:4]}
        assert crons.index == index


async def test_a_nested_mutation_that_is_undone_leaves_the_index_right(open_bench: Any) -> None:
    """What the outer one did to the same crons, before and after, stands."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(*[PutCron(cron(name)) for name in "abc"])

        async def inner(tx: Tx) -> None:
            await tx.change_cron(DeleteCron("a"))
            await tx.change_cron(PauseCron("b", ""))
            await tx.change_cron(PutCron(cron("c", Cron("1 * * * *"))))
            await tx.change_cron(PutCron(cron("d")))
            raise Boom

        async def outer(tx: Tx) -> None:
            await tx.change_cron(PauseCron("a", "outer"))
            with pytest.raises(Boom):
                await tx.nested(inner)
            await tx.change_cron(ResumeCron("a"))
            await tx.change_cron(PutCron(cron("c", Cron("2 * * * *"))))

        await crons.do(Mutate(outer))
        assert [await crons.waits_for(name) for name in "abc"] == [5 * MINUTE, 5 * MINUTE, 2 * MINUTE]
        with pytest.raises(AssertionError):
            await crons.info("d")
        await refused_boom(crons.do(Mutate(inner)))
        assert len(crons.index) == 3


async def test_a_batch_that_is_split_fires_each_cron_once(open_bench: Any, db: Path) -> None:
    """Units that only the commit refuses stand between crons: their turn-mates fire, and are told to the index once."""
    async with open_bench(*conformance.SCHEMA) as bench:
        crons = CronBench(bench)
        bench.host.bodies["bad"] = orphans("x")
        names = [f"c{at}" for at in range(6)]
        await crons.do(*[PutCron(cron(name)) for name in names])
        (job,) = await bench.insert(mutation("bad"))
        (bad,) = await bench.due(MUTATIONS)
        due = [RunDue(CRONS, entry) for entry in sorted(crons.index)]
        bench.clock.move_to(START_US + 7 * MINUTE)
        units = [*due[:2], Mutate(orphans("y")), due[2], PauseCron("c4", ""), bad, *due[3:], ResumeCron("c4")]
        with pytest.raises(Exception, match="FOREIGN KEY"):
            await crons.do(*units)
        assert await bench.states([job]) == ["failed"]
        assert [await crons.history(name) for name in names] == [[("pending", 5)]] * 6
        assert {await crons.waits_for(name) for name in names} == {10 * MINUTE}


async def test_a_full_disk_is_no_trouble_of_the_cron(open_bench: Any) -> None:
    """It waits as it is, and fires by its policy once there is room."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(*[PutCron(cron(name, rule=CatchUp("all", 1_000, None, "queue"))) for name in "ab"])
        raw = bench.store._connection.raw
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count = {pages}")
        bench.clock.move_to(START_US + 3_000 * MINUTE)
        due = [RunDue(CRONS, entry) for entry in sorted(crons.index)]
        replies = await bench.run(*due)
        assert [type(reply.error) for reply in replies if isinstance(reply, Refused)] == [StoreFull] * 2
        assert [(await crons.info(name)).trouble for name in "ab"] == [None, None]
        assert await bench.entries(CRONS) == sorted(crons.index)
        raw.execute("PRAGMA max_page_count = 1000000")
        assert await crons.fire(3_000 * MINUTE) == [Fired(name, 600, ()) for name in "ab"]


# ------------------------------------------------------------------ a watermark that was lost


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
async def test_a_tick_runs_once_even_when_the_watermark_was_lost(overlap: Any, open_bench: Any, db: Path) -> None:
    """(cron, tick) is unique in the file: set back behind our back, the ticks that ran do not run again."""
    async with open_bench(*conformance.SCHEMA) as bench:
        crons = CronBench(bench)
        bench.host.bodies["m"] = writes("once")
        await crons.do(PutCron(cron(rule=CatchUp("all", overlap=overlap))))
        await crons.fire(5 * MINUTE)
        await crons.run()
        lost = f"UPDATE _scheduler_crons SET watermark_us = {START_US}, fire_at_us = tick_us - {5 * MINUTE}, tick_us = tick_us - {5 * MINUTE}"
        run(db, lost)
        await crons.restart()
        assert await crons.fire(5 * MINUTE) == [Fired("c", 0, ())]
        await crons.run()
        assert (await crons.history(), await bench.items()) == ([("success", 5)], {"once": 1})
        run(db, lost)
        await crons.restart()
        bench.host.bodies["m"] = writes("twice")
        assert await crons.fire(10 * MINUTE) == [Fired("c", 1, ())]
        await crons.run()
        assert (await crons.history(), len(await bench.items())) == ([("success", 5), ("success", 10)], 2)


async def test_an_outside_clock_is_told_of_the_run_when_the_watermark_was_lost(open_bench: Any, db: Path) -> None:
    """What is sent again is a duplicate, and the next tick is accepted."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron(clock="external", rule=CatchUp("all", overlap="queue"))))
        bench.clock.move_to(START_US + 6 * MINUTE)
        (first,) = await crons.do(DispatchCron("c", None))
        run(db, f"UPDATE _scheduler_crons SET watermark_us = {START_US}")
        assert await crons.do(DispatchCron("c", None)) == [first._replace(status="duplicate")]
        run(db, f"UPDATE _scheduler_crons SET watermark_us = {START_US}")
        bench.clock.move_to(START_US + 11 * MINUTE)
        (second,) = await crons.do(DispatchCron("c", None))
        assert (second.status, second.job_id != first.job_id) == ("accepted", True)
        assert await crons.history() == [("pending", 5), ("pending", 10)]


# ------------------------------------------------------------------ R11: garbage in a row


GOOD = cron().encode()
DAMAGE = {
    "empty": b"", "one byte": b"\x01", "text": b"spec", "cut": GOOD[:-5], "a later format": b"\x02" + GOOD[1:],
    "length": GOOD[:1] + b"\xff\xff\xff\xff" + GOOD[5:], "zeros": bytes(len(GOOD)),
    "a list": b"\x01\x00\x00\x00\x02\x01\x90", "policy": GOOD.replace(b"latest", b"oldest"),
    "expression": GOOD.replace(b"*/5 * * * *", b"*/99 * * * "), "zone": GOOD.replace(b"UTC", b"XTC"),
    "kind": GOOD.replace(b"mutation", b"mutilate"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_damaged_definition_takes_out_that_cron_only(
    what: str, open_bench: Any, db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, with the trouble on its row; the others fire, over restarts; put again it goes on."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(*[PutCron(cron(name)) for name in "abc"])
        with closing(sqlite3.connect(db)) as file, file:
            file.execute("UPDATE _scheduler_crons SET spec = ? WHERE name = 'b'", (DAMAGE[what],))
        assert DAMAGE[what] != GOOD
        with caplog.at_level(logging.ERROR):
            fired = await crons.fire(5 * MINUTE)
        assert [each and each.cron for each in fired] == ["a", None, "c"]
        assert any("cron 'b' does not fire any more" in text for text in caplog.messages)
        info = await crons.info("b")
        assert (info.spec, info.schedule, info.next_at, bool(info.trouble)) == (None, None, None, True)
        listed = (await bench.ask(lambda snapshot: snapshot.list_crons("", None, 10))).items
        assert [info.name for info in listed] == ["a", "b", "c"]
        await crons.restart()
        await crons.run()
        assert [each and each.cron for each in await crons.fire(10 * MINUTE)] == ["a", "c"]
        await refused(crons.do(RunCron("b", None)), InvalidCron)
        await crons.do(PauseCron("b", ""))
        await refused(crons.do(ResumeCron("b")), InvalidCron)
        await crons.do(PutCron(cron("b")))
        await crons.do(ResumeCron("b"))
        assert ((await crons.info("b")).trouble, await crons.waits_for("b")) == (None, 15 * MINUTE)


@pytest.mark.parametrize("delete", [True, False])
async def test_a_damaged_cron_can_be_deleted(delete: bool, open_bench: Any, db: Path) -> None:
    """At run time, and by a manifest that has it no more."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron()) if delete else StageCrons([cron()], activate=True))
        run(db, "UPDATE _scheduler_crons SET spec = x'00'")
        bench.clock.move_to(START_US + MINUTE)
        await crons.do(DeleteCron("c") if delete else StageCrons([], activate=True))
        assert crons.index == set()


async def test_what_put_a_cron_in_trouble_is_over_when_it_is_resumed(open_bench: Any, db: Path) -> None:
    """What stands in its row can be read again: it fires, and shows no trouble."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron()))
        run(db, "UPDATE _scheduler_crons SET spec = x'00'")
        await crons.fire(5 * MINUTE)
        await crons.do(PauseCron("c", ""))
        with closing(sqlite3.connect(db)) as file, file:
            file.execute("UPDATE _scheduler_crons SET spec = ?", (GOOD,))
        assert (await crons.info()).trouble
        await crons.do(ResumeCron("c"))
        assert ((await crons.info()).trouble, await crons.waits_for()) == (None, 10 * MINUTE)
        assert await crons.history() == [("pending", 5)]


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Let no log of hundreds of troubles be kept."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


numbers = st.sampled_from([-HUGE - 1, -HUGE, -1, 0, 1, START_US, START_US + 5 * MINUTE, 1 << 53, 1 << 62, HUGE])
columns = st.dictionaries(
    st.sampled_from([
        "anchor_us", "watermark_us", "tick_us", "fire_at_us", "skipped", "paused_at_us", "created_at_us",
        "changed_at_us",
    ]),
    numbers,
    min_size=1,
)  # fmt: skip
texts = st.dictionaries(
    st.sampled_from(["name", "origin", "path", "zone", "note", "trouble"]),
    st.sampled_from([b"", b"\xff\xfe", b"\x00", b"../x", b"a" * 300, b"Europe/Paris"]),
    max_size=2,
)
nulls = st.sets(st.sampled_from(["tick_us", "fire_at_us", "zone", "trouble"]), max_size=2)


@given(columns=columns, texts=texts, nulls=nulls, every=st.booleans(), spec=st.sampled_from([None, b"", b"\x01\x90"]))
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.usefixtures("quiet")
async def test_R11_whatever_stands_in_a_row_stops_neither_the_others_nor_a_start(
    tmp_path_factory: pytest.TempPathFactory,
    open_bench: Any,
    columns: dict[str, int],
    texts: dict[str, bytes],
    nulls: set[str],
    every: bool,
    spec: bytes | None,
) -> None:
    """Huge numbers, NULLs, bytes that are no text: the store opens, the others fire, and every list can be read."""
    path = tmp_path_factory.mktemp("damage") / "app.db"
    async with open_bench(path=path) as bench:
        crons = CronBench(bench)
        bad = cron("bad", Every(minutes=5) if every else Cron("*/5 * * * *", tz="Europe/Paris"))
        await crons.do(*[PutCron(each) for each in (cron("a"), bad, cron("z", Every(minutes=5)))])
        with closing(sqlite3.connect(path)) as file, file:
            row = file.execute("SELECT id FROM _scheduler_crons WHERE name = 'bad'").fetchone()
            sets = {**columns, **dict.fromkeys(nulls, None)}
            for name, number in sets.items():
                file.execute(f"UPDATE _scheduler_crons SET {name} = ? WHERE id = ?", (number, row[0]))
            for name, text in texts.items():
                file.execute(f"UPDATE _scheduler_crons SET {name} = CAST(? AS TEXT) WHERE id = ?", (text, row[0]))
            if spec is not None:
                file.execute("UPDATE _scheduler_crons SET spec = ? WHERE id = ?", (spec, row[0]))
            file.execute("DELETE FROM _scheduler_meta WHERE name LIKE 'zone:%'")
        await bench.restart()
        bench.clock.move_to(START_US + 12 * MINUTE)
        for _ in range(3):
            await bench.run(*[unit for unit in await bench.due(CRONS) if unit.entry.fire_at_us <= bench.clock.now_us()])
            await bench.run(*await bench.due(MUTATIONS))
        late = [entry for entry in await bench.entries(CRONS) if entry.fire_at_us <= bench.clock.now_us()]
        assert late == [], "an entry that stays due would be tried for ever"
        assert [await crons.waits_for(name) for name in "az"] == [15 * MINUTE] * 2
        assert ("success", 10) in await crons.history("a")
        listed = (await bench.ask(lambda snapshot: snapshot.list_crons("", None, 10))).items
        assert {"a", "z"} <= {info.name for info in listed}
        await crons.runs(None)
        await bench.run(StageCrons([cron("code")], activate=True), StageCrons([], activate=True))
        await bench.restart()


async def test_R11_damaged_runs_and_records_can_be_listed(open_bench: Any, db: Path) -> None:
    """A run's note, a skip's numbers, whatever they are."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron()))
        await crons.fire(22 * MINUTE)
        await crons.run()
        for sql in (
            "UPDATE _scheduler_jobs SET cron_run = x'01'", "UPDATE _scheduler_jobs SET cron_run = x'0193a17800'",
            f"UPDATE _scheduler_jobs SET tick_us = {HUGE}, started_at_us = {-HUGE}, completed_at_us = {HUGE}",
            f"UPDATE _scheduler_skips SET first_tick_us = {-HUGE}, last_tick_us = {HUGE}, ticks = {-HUGE}",
            f"UPDATE _scheduler_skips SET recorded_at_us = {HUGE}", "UPDATE _scheduler_skips SET reason = CAST(x'ff' AS TEXT)",
        ):  # fmt: skip
            run(db, sql)
            assert (len(await crons.runs()), len(await crons.runs(None))) == (2, 2)
        await crons.restart()
        assert await crons.fire(25 * MINUTE) == [Fired("c", 1, ())]


# ------------------------------------------------------------------ many at once


async def test_more_crons_than_one_refill_holds_fire_in_order(open_bench: Any) -> None:
    """Page by page, each entry once, also when the turn's time is up in between."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(*[PutCron(cron(f"c{at:03}", Every(seconds=60 + at))) for at in range(200)])
        await crons.fire(0)
        bench.clock.move_to(START_US + 70 * SECOND)
        units = [RunDue(CRONS, entry) for entry in sorted(crons.index) if entry.fire_at_us <= bench.clock.now_us()]
        assert len(units) == 11
        fired = await crons.do(*units, *[RunDue(CRONS, entry) for entry in sorted(crons.index)[11:]], *units)
        assert [each.cron for each in fired[:11]] == [f"c{at:03}" for at in range(11)]
        assert [each.runs for each in fired[:11]] == [0] * 11  # the first run of each has not ended: recorded
        assert fired[200:] == [None] * 11


async def test_the_largest_catch_up_of_many_crons_is_one_turn_each(open_bench: Any) -> None:
    """No turn inserts the runs of more crons than its time allows, by more than one read of them."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        rule = CatchUp("all", CATCH_UP_TICKS_MAX, None, "queue")
        await crons.do(*[PutCron(cron(name, rule=rule)) for name in "ab"])
        fired = await crons.fire(5 * (CATCH_UP_TICKS_MAX + 7) * MINUTE)
        assert [(each.runs, each.drops[0][0], each.drops[0].count) for each in fired if each] == [
            (CATCH_UP_TICKS_MAX, "cap", 7)
        ] * 2
        assert len(await bench.due(MUTATIONS)) == 2  # each lane has its head in the queue


async def test_an_entry_that_is_not_the_row_s_own_does_nothing(open_bench: Any, db: Path) -> None:
    """Of a time that has passed, of a cron that is gone, of a number that never was."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron()))
        (entry,) = crons.index
        bench.clock.move_to(START_US + 5 * MINUTE)
        before = rows(db)
        strange = [Entry(entry.fire_at_us - 1, entry.seq), Entry(entry.fire_at_us, 77_777), Entry(*NOTHING)]
        assert await crons.do(*[RunDue(CRONS, each) for each in strange]) == [None] * 3
        assert rows(db) == before


async def test_numbers_of_crons_and_jobs_are_never_the_same(open_bench: Any) -> None:
    """They are of one series, over rollbacks and restarts: a turn tells them apart by nothing else."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        seen: list[int] = []

        async def rolls_back(tx: Tx) -> None:
            await tx.change_cron(PutCron(cron("gone")))
            raise Boom

        for at in range(4):
            await refused_boom(crons.do(Mutate(rolls_back)))
            await crons.do(PutCron(cron(f"c{at}", EVERY_FIVE)), InsertJobs([mutation(after_us=10 * MINUTE)]))
            seen += [entry.seq for entry in sorted(crons.index, key=lambda each: each.seq)[at:]]
            seen += [entry.seq for entry in (await bench.entries(MUTATIONS))[at:]]
            await crons.restart()
        assert seen == sorted(set(seen))
        assert after((await crons.info("c0")).next_at or 0) == 5 * MINUTE  # type: ignore[arg-type]
        assert codec.decode((await crons.info("c0")).spec.args) == {}  # type: ignore[union-attr]
