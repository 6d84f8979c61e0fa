"""A cron's entry in the index: whatever becomes of it when it is due, it comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actor_scheduler import codec
from actor_scheduler.crons.schedule import Every
from actor_scheduler.crons.spec import CronSpec
from actor_scheduler.model import CRONS, Entry
from actor_scheduler.store.base import Done, Fired, Refill, RunDue
from actor_scheduler.store.cron_units import DeleteCron, PutCron
from actor_scheduler.store.sqlite import SqliteStore
from actor_scheduler.testing.bench import NOTHING, SECOND, Bench
from actor_scheduler.testing.clock import START_US

MINUTE = 60 * SECOND
SPEC = CronSpec("sweep", Every(minutes=1), "m:sweep", "mutation", codec.encode({}))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A store with one interval that has run once, at the start."""
    bench = Bench(lambda host, clock: SqliteStore(tmp_path / "app.db", host, clock))
    await bench.store.open()
    await bench.run(PutCron(SPEC))
    await bench.run(*await entries(bench))
    yield bench
    await bench.store.close()


async def entries(bench: Bench) -> list[RunDue]:
    """Return what stands in the crons' queue of the store."""
    await bench.run(refills=[Refill(CRONS, NOTHING, 10)])
    ((_, found, _),) = bench.last.refills
    return [RunDue(CRONS, entry) for entry in found]


async def test_an_entry_that_is_not_due_after_all_is_given_back(bench: Bench) -> None:
    """The clock was set back between the picking and the turn: nothing fires, and nothing is lost."""
    (due,) = await entries(bench)
    assert due.entry.fire_at_us == START_US + MINUTE
    replies = await bench.run(due)
    assert replies == [Done(Fired("sweep", 0, ()))]
    assert bench.last.effects.pending == [(CRONS, due.entry)]


async def test_an_entry_of_an_earlier_time_does_not_use_up_the_real_one(bench: Bench) -> None:
    """Both in one turn: the one that holds fires, once."""
    (due,) = await entries(bench)
    bench.clock.move_to(START_US + MINUTE)
    stale = RunDue(CRONS, Entry(due.entry.fire_at_us - 1, due.entry.seq))
    first, second, third = await bench.run(stale, due, due)
    assert (first, third) == (Done(), Done())
    assert second == Done(Fired("sweep", 0, second.value.drops))
    assert second.value.drops[0].reason == "overlap"
    assert [queue_entry for queue_entry in bench.last.effects.pending if queue_entry[0] == CRONS] == [
        (CRONS, Entry(START_US + 2 * MINUTE, due.entry.seq))
    ]


async def test_an_entry_whose_cron_is_deleted_in_the_same_turn_fires_no_more(bench: Bench) -> None:
    """The command came before it."""
    (due,) = await entries(bench)
    bench.clock.move_to(START_US + MINUTE)
    assert await bench.run(DeleteCron("sweep"), due) == [Done(value=True), Done()]
    assert (await entries(bench), (CRONS, due.entry) in bench.last.effects.pending) == ([], False)
