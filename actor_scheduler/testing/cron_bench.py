"""A bench for crons: an index kept as an actor keeps it, and short words for what became of ticks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler import codec
from actor_scheduler.crons.schedule import Cron
from actor_scheduler.crons.spec import CronSpec
from actor_scheduler.model import CRONS, MUTATIONS, Entry
from actor_scheduler.store.base import Done, Refused, RunDue
from actor_scheduler.testing.bench import SECOND, Boom
from actor_scheduler.testing.clock import START_US
from actor_scheduler.times import to_datetime

if TYPE_CHECKING:
    from actor_scheduler.crons.records import CronInfo, CronRun
    from actor_scheduler.crons.schedule import Schedule
    from actor_scheduler.store.base import Fired, Tx, Unit
    from actor_scheduler.store.cron_units import CronUnit
    from actor_scheduler.testing.bench import Bench

MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
EVERY_FIVE: Final = Cron("*/5 * * * *")


def cron(name: str = "c", schedule: Schedule = EVERY_FIVE, path: str = "m", **options: Any) -> CronSpec:
    """Return the definition of a cron whose target is a mutation, unless its `kind` says otherwise."""
    options = {"kind": "mutation", "args": codec.encode({}), **options}
    return CronSpec(name, schedule, path, **options)


class CronBench:
    """A bench with an index of crons that is kept as an actor keeps it: by what turns tell.

    After every step it must be what a complete refill gives.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.index: set[Entry] = set()
        bench.host.bodies["m"] = _nothing

    async def do(self, *units: Unit) -> list[Any]:
        """Run units and return their answers; raise what the first of them was refused with."""
        await self.bench.run(*units)
        replies = self.bench.last.replies
        for unit, reply in zip(units, replies, strict=True):
            if isinstance(unit, RunDue) and isinstance(reply, Done):
                self.index.discard(unit.entry)
        effects = self.bench.last.effects
        self.index -= {entry for queue, entry in effects.gone if queue == CRONS}
        came = [entry for queue, entry in effects.pending if queue == CRONS]
        assert len(set(came)) == len(came), "an entry came twice"
        assert not self.index.intersection(came), "an entry came that had not gone"
        self.index.update(came)
        assert sorted(self.index) == await self.bench.entries(CRONS)
        for reply in replies:
            if isinstance(reply, Refused):
                raise reply.error
        return [reply.value for reply in replies if isinstance(reply, Done)]

    async def fire(self, after_us: int) -> list[Fired | None]:
        """Let it be a moment after the start, fire every cron that is due, and return what that gave."""
        now_us = START_US + after_us
        self.bench.clock.move_to(now_us)
        due = [RunDue(CRONS, entry) for entry in sorted(self.index) if entry.fire_at_us <= now_us]
        fired = await self.do(*due)
        assert all(entry.fire_at_us > now_us for entry in self.index), "a cron that fired is due at once"
        return fired

    async def run(self) -> None:
        """Run the mutations that are due until there is none."""
        now_us = self.bench.clock.now_us()
        while due := [unit for unit in await self.bench.due(MUTATIONS) if unit.entry.fire_at_us <= now_us]:
            await self.do(*due)

    async def restart(self) -> None:
        """End as a crash would; the index of the next process is what stands in the store."""
        await self.bench.restart()
        self.index = set(await self.bench.entries(CRONS))

    async def info(self, name: str = "c") -> CronInfo:
        """Return how a cron stands that exists."""
        info: CronInfo | None = await self.bench.ask(lambda snapshot: snapshot.get_cron(name))
        assert info is not None
        return info

    async def waits_for(self, name: str = "c") -> int | None:
        """Return the next tick of a cron, in microseconds after the start."""
        next_at = (await self.info(name)).next_at
        return None if next_at is None else after(next_at)

    async def runs(self, name: str | None = "c") -> list[CronRun]:
        """Return what became of the newest ticks, the newest first."""
        runs: list[CronRun] = await self.bench.ask(lambda snapshot: snapshot.cron_runs(name, 1_000, None))
        return runs

    async def history(self, name: str = "c") -> list[tuple[Any, ...]]:
        """Return what became of a cron's ticks, oldest first, in minutes after the start.

        (state, minute) for a run; (reason, first, last, count) for ticks that did not run.
        """
        return [
            (run.reason, after(run.first_tick) / MINUTE, after(run.tick) / MINUTE, run.skipped)
            if run.state == "skipped"
            else (run.state, after(run.tick) / MINUTE)
            for run in reversed(await self.runs(name))
        ]


async def _nothing(tx: Tx) -> None:
    del tx


def after(moment: datetime) -> int:
    """Return how long after the start a moment is, in microseconds."""
    span: timedelta = moment - to_datetime(START_US)
    return span // timedelta(microseconds=1)


def asks(*units: CronUnit, then: type[Exception] | None = None) -> Any:
    """Return a mutation's body that changes crons, and raises or returns what it was answered."""

    async def body(tx: Tx) -> list[Any]:
        answers = [await tx.change_cron(unit) for unit in units]
        if then is not None:
            raise then
        return answers

    return body


async def refused_boom(work: Any) -> None:
    """Assert that a mutation failed by itself."""
    try:
        await work
    except Boom:
        return
    raise AssertionError
