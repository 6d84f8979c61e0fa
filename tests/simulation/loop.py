"""An event loop whose time is virtual and whose ready queue is shuffled: the seed decides every interleaving.

Nothing ever waits.  When nothing is ready, time jumps to the next timer; when there is none either, nothing can happen
any more, and the loop says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import Callable
from typing import Any, Final

SECOND_US: Final = 1_000_000
_CANCELED_MAX: Final = 200  # timers that were taken back, and still stand in the heap
_PASSES_MAX: Final = 150_000  # without time passing: far more than thousands of jobs due at once take
_LAG: Final = 0.3  # of the ready handles stay behind in a pass


class Crash(BaseException):
    """The simulated process dies here. Nothing of it runs any more, and nothing it does any more is durable."""


class Idle(Exception):
    """Nothing will ever happen any more: nothing is ready and no timer is set, or something is ready for ever."""


class SimLoop(asyncio.BaseEventLoop):
    """One life of a simulated process. `order` is fifo, shuffle, or lag (some wait for a later pass, too)."""

    def __init__(self, mono_us: int, rng: random.Random, order: str) -> None:
        super().__init__()
        self.mono_us = mono_us
        self._passes = 0  # at this very moment
        self.crashed = False
        self._given_up = False
        self.before_pass: Callable[[], None] | None = None
        self._rng = rng
        self._order = order
        self.set_exception_handler(lambda _loop, _context: None)  # what fails in a dying process is of no interest

    def time(self) -> float:
        """Return virtual monotonic time, in seconds."""
        return self.mono_us / SECOND_US

    def give_up(self) -> None:
        """Let this moment be the last: something goes round in circles."""
        self._given_up = True

    def live(self, work: Any) -> Any:
        """Run `work` to its end. Raises Crash when the process dies before, Idle when nothing is left that could run."""
        return self.run_until_complete(work)

    def _run_once(self) -> None:
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]
        ready: Any = self._ready  # type: ignore[attr-defined]
        self._sweep(timers)
        if not ready:
            if not timers:
                raise Idle
            self._passes = 0
            self.mono_us = max(self.mono_us, _due_us(timers[0]))
        self._passes += 1
        if self._given_up or self._passes > _PASSES_MAX:
            raise Idle
        while timers and _due_us(timers[0]) <= self.mono_us:
            handle = heapq.heappop(timers)
            handle._scheduled = False
            ready.append(handle)
        if self.before_pass is not None:
            self.before_pass()
        batch = list(ready)
        ready.clear()
        if self._order != "fifo" and len(batch) > 1:
            self._rng.shuffle(batch)
            if self._order == "lag" and self._rng.random() < _LAG:
                cut = self._rng.randrange(1, len(batch))
                ready.extend(batch[cut:])
                del batch[cut:]
        for handle in batch:
            if self.crashed:
                raise Crash
            if not handle._cancelled:
                handle._run()
        if self.crashed:
            raise Crash

    def _sweep(self, timers: list[Any]) -> None:
        """Drop timers that were taken back: those at the front, and all of them when they are many."""
        if self._timer_cancelled_count > _CANCELED_MAX:  # type: ignore[has-type]
            kept = []
            for handle in timers:
                if handle._cancelled:
                    handle._scheduled = False
                else:
                    kept.append(handle)
            heapq.heapify(kept)
            timers[:] = kept
            self._timer_cancelled_count = 0
        while timers and timers[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(timers)._scheduled = False

    def _process_events(self, event_list: Any) -> None:
        """There are no events of the world outside."""

    def _write_to_self(self) -> None:
        """Nobody else's thread wakes this loop."""

    def bury(self) -> None:
        """Throw everything away that still stands in the loop, as the end of a process does."""
        buried: set[asyncio.Task[Any]] = set()
        while tasks := asyncio.all_tasks(self) - buried:  # one that is closed may have begun another in its `finally`
            for task in sorted(tasks, key=lambda task: task.get_name()):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(BaseException):
                    task.get_coro().close()  # type: ignore[union-attr]
            buried |= tasks
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()


async def pass_time(span_us: float) -> None:
    """Return once virtual time has passed."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    timer = loop.call_later(span_us / SECOND_US, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()


def _due_us(handle: Any) -> int:
    return round(handle._when * SECOND_US)
