"""Looking into the scheduler while it runs: the one place of the simulation that knows its private parts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from actor_scheduler.ids import parse_id
from actor_scheduler.index import NOTHING
from actor_scheduler.model import CRONS
from actor_scheduler.queues import PARKED
from actor_scheduler.store.base import CancelJob, CompleteJob, Refill, RunDue, TurnResult, Unit
from actor_scheduler.store.sqlite import SqliteStore
from tests.proof.history import Finding

if TYPE_CHECKING:
    from tests.simulation.world import World


class WatchedStore(SqliteStore):
    """The real store; the world is told of every turn."""

    def __init__(self, world: World, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._world = world

    async def apply(self, units: Sequence[Unit], refills: Sequence[Refill]) -> TurnResult:
        """Run a turn."""
        world = self._world
        world.turns += 1
        world.units = list(units)
        if any(refill.after != NOTHING for refill in refills):
            world.sometimes["a refill of an incomplete window"] += 1
        canceled = {parse_id(unit.job_id or "") for unit in units if isinstance(unit, CancelJob)}
        if canceled:
            seqs = {found[0] for found in canceled if found is not None}
            if any(isinstance(unit, RunDue) and unit.entry.seq in seqs for unit in units):
                world.sometimes["a cancel in the turn of its due job"] += 1
        try:
            return await super().apply(units, refills)
        finally:
            world.units = []

    def release_as_kernel(self) -> None:
        """Give up what the kernel gives up for a dead process: the lock, and the mapping."""
        self._lock.release()
        self._blame.close()


def check_index(world: World) -> Iterator[Finding]:
    """Yield how the index and the alarm of an actor at rest differ from the file."""
    engine = world.app._engine
    if engine is None:
        return
    actor = engine.running().actor
    preparing = actor._preparation.under_way or actor._preparation.ready
    if actor.broken is not None or not actor._running or not actor._dispatching or preparing:
        return
    world.index_checks += 1
    with closing(sqlite3.connect(world.path, isolation_level=None)) as file:
        pending = file.execute(
            "SELECT queue, fire_at_us, seq FROM _scheduler_jobs WHERE state = 'pending' ORDER BY fire_at_us, seq"
        ).fetchall()
        crons = file.execute("SELECT fire_at_us, id FROM _scheduler_crons WHERE fire_at_us IS NOT NULL ORDER BY 1, 2")
        stored: dict[str, list[tuple[int, int]]] = {CRONS: crons.fetchall()}
        mine = "SELECT seq FROM _scheduler_jobs WHERE state = 'in_progress' AND boot = ?"
        running = [seq for (seq,) in file.execute(mine, (engine.running().store.boot,))]
    for queue, fire_at_us, seq in pending:
        if not queue.startswith(PARKED):  # it waits for its turn in a lane
            stored.setdefault(queue, []).append((fire_at_us, seq))
    index = actor.dispatch.index
    for queue in sorted({*stored, *index.queues()}):
        window = index.window(queue)
        expected = [entry for entry in stored.get(queue, []) if entry <= window.horizon]
        held = [tuple(entry) for entry in window]
        if held != expected:
            missing = [entry for entry in expected if entry not in held]
            extra = [entry for entry in held if entry not in expected]
            yield Finding("INDEX", queue, f"lacks {missing[:3]}, has in vain {extra[:3]}, horizon {window.horizon}")
        if stored.get(queue) and not held and not actor._hold.active:
            yield Finding("INDEX", queue, "is empty at rest though jobs are pending")
    yield from _check_running(actor, running)
    yield from _check_alarm(world, actor)


def _check_running(actor: Any, running: list[int]) -> Iterator[Finding]:
    """What is in progress runs, or its outcome waits for the store."""
    known = set(actor.attempts._running)
    waiting = [*actor._mailbox._commands, *actor._mailbox._kept]
    known.update(command.unit.job.seq for command in waiting if isinstance(command.unit, CompleteJob))
    stranded = [seq for seq in running if seq not in known]
    if stranded:
        yield Finding("STRANDED", f"jobs {stranded[:3]}", "are in progress, and nothing runs them")


def _check_alarm(world: World, actor: Any) -> Iterator[Finding]:
    """The alarm is armed no later than the earliest job that could start, or the end of a hold."""
    armed_us = actor._alarm.armed_at_us
    earliest_us = actor.dispatch.next_us(world.clock.now_us())
    if earliest_us is None:
        return
    latest_us = max(earliest_us, actor._hold.until_us or 0) if actor._hold.active else earliest_us
    if armed_us is None or armed_us > latest_us:
        yield Finding("ALARM", "alarm", f"armed for {armed_us}, the earliest job is due at {earliest_us}")
