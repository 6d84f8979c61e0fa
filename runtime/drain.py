"""The beat of a host that sleeps: run what is due, then say what happened and when to call again."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from actor_scheduler.clock import Timer
    from actor_scheduler.model import Overview
    from runtime.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What happened while due work was given time; attempts of all kinds, whoever asked for them.

    `due_left` is what is due and has not started: the time was over, or it is paused or waits for a slot.
    `next_at_us` is when something can start next: not after now when the time was over; None when nothing waits for
    a moment.
    """

    started: int
    succeeded: int
    failed: int
    canceled: int
    retrying: int
    due_left: int
    running: int
    next_at_us: int | None
    took_us: int


async def drain(
    engine: Engine,
    budget_us: int,
    hurry: Callable[[Callable[[], object]], AbstractContextManager[None]] | None = None,
) -> Drained:
    """Return once nothing is due any more and what has started meanwhile has ended, or the budget is over.

    What still runs then goes on.  It also returns when the app is told to stop, or when what `hurry` was given is
    called.  Raises NotStarted, StoreUnavailable.
    """
    running = engine.running()
    running.actor.check_usable()
    clock = running.clock
    began_us = clock.monotonic_us()
    before = engine.meter.total
    with running.actor.stirring.listen() as stirred:
        end = _End(engine, budget_us, stirred)
        try:
            with hurry(end.now) if hurry is not None else contextlib.nullcontext():
                await _until(engine, end, stirred)
        finally:
            end.stop()
    after = engine.meter.total
    started, succeeded, failed, canceled, retrying = (now - then for now, then in zip(after, before, strict=True))
    overview: Overview = await running.store.query(lambda snapshot: snapshot.overview(), None)
    return Drained(
        started=started,
        succeeded=succeeded,
        failed=failed,
        canceled=canceled,
        retrying=retrying,
        due_left=overview.due,
        running=len(running.actor.attempts),
        next_at_us=running.actor.dispatch.next_us(clock.now_us()),
        took_us=clock.monotonic_us() - began_us,
    )


async def _until(engine: Engine, end: _End, stirred: asyncio.Event) -> None:
    actor = engine.running().actor
    before = actor.attempts.present()
    actor.look()
    while not end.reached and actor.accepting:
        stirred.clear()
        if actor.caught_up and actor.attempts.present() <= before:
            return
        await stirred.wait()


class _End:
    """The moment at which a drain is over, whatever is left. By the clock that no step moves."""

    def __init__(self, engine: Engine, budget_us: int, stirred: asyncio.Event) -> None:
        self._clock = engine.clock
        self._until_us = self._clock.monotonic_us() + budget_us
        self._stirred = stirred
        self._timer: Timer | None = None
        self.reached = False
        self._look()

    def _look(self) -> None:
        left_us = self._until_us - self._clock.monotonic_us()
        if left_us <= 0:
            self.now()
        else:
            self._timer = self._clock.call_at(self._clock.now_us() + left_us, self._look)

    def now(self) -> None:
        """Let it be over."""
        self.reached = True
        self._stirred.set()

    def stop(self) -> None:
        """Wake nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
