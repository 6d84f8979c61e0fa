"""The one module that reads the clock, and the port everything else tells time by."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from actor_scheduler.limits import ALARM_US_MAX, CLOSING_US, SECOND_US

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """A wake-up that can be taken back."""

    def cancel(self) -> None:
        """Forget the wake-up; harmless after it happened."""


class Clock(Protocol):
    """Wall time, one way to be woken, and a measure of spans. The wall clock decides, the timer only wakes."""

    def now_us(self) -> int:
        """Return the wall clock: microseconds since the Unix epoch, UTC. It may jump either way."""
        ...

    def call_at(self, when_us: int, callback: Callable[[], object]) -> Timer:
        """Call back on the event loop at about `when_us`. It may be early: look at `now_us` and ask again."""
        ...

    def monotonic_us(self) -> int:
        """Return a count of microseconds that no step of the wall clock moves: how long something has taken."""
        ...


class SystemClock:
    """The real clock. It wakes early rather than sleep over a minute, so that suspend and clock steps are noticed."""

    def now_us(self) -> int:
        """Return `time.time_ns()` in microseconds."""
        return time.time_ns() // 1_000

    def call_at(self, when_us: int, callback: Callable[[], object]) -> Timer:
        """Arm a timer of the running loop; monotonic, at most ALARM_US_MAX away."""
        loop = asyncio.get_running_loop()
        wait_us = when_us - self.now_us()
        if wait_us > ALARM_US_MAX:
            return loop.call_later(ALARM_US_MAX / SECOND_US, callback)
        return _PreciseTimer(loop, self, when_us, wait_us, callback)

    def monotonic_us(self) -> int:
        """Return `time.perf_counter_ns()` in microseconds."""
        return monotonic_us()


class _PreciseTimer:
    """A timer that ends on the wall clock, not on the loop's grid.

    Event loops wait in whole milliseconds, rounded up.  So the loop's own timer ends a little early, and the rest is
    spent in passes of the loop, which go on serving everybody else.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: SystemClock,
        when_us: int,
        wait_us: int,
        callback: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._when_us = when_us
        self._callback = callback
        self._handle: Timer = loop.call_later(max(wait_us - CLOSING_US, 0) / SECOND_US, self._close_in)

    def _close_in(self) -> None:
        # Only just before its moment: a clock that was set back meanwhile must not keep the loop busy.
        if 0 < self._when_us - self._clock.now_us() <= 2 * CLOSING_US:
            self._handle = self._loop.call_soon(self._close_in)
        else:
            self._callback()

    def cancel(self) -> None:
        """Forget the wake-up."""
        self._handle.cancel()


def monotonic_us() -> int:
    """Return a clock for measuring spans of work; never compared with wall time."""
    return time.perf_counter_ns() // 1_000


async def pause(clock: Clock, span_us: int) -> None:
    """Return once `span_us` have passed on `clock`, or the clock was set back meanwhile: then nobody knows."""
    began_us = clock.now_us()
    while began_us <= clock.now_us() < began_us + span_us:
        await _woken(clock, began_us + span_us)


async def sleep_until(clock: Clock, when_us: int) -> None:
    """Return once `clock` shows `when_us` or later; never before."""
    while clock.now_us() < when_us:
        await _woken(clock, when_us)


async def pass_span(clock: Clock, span_us: int) -> None:
    """Return once `span_us` have passed, whatever the wall clock says meanwhile."""
    until_us = clock.monotonic_us() + span_us
    while (left_us := until_us - clock.monotonic_us()) > 0:
        await _woken(clock, clock.now_us() + left_us)


async def _woken(clock: Clock, when_us: int) -> None:
    woken = asyncio.Event()
    timer = clock.call_at(when_us, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()
