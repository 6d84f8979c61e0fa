"""The one module that reads the clock, and the port everything else tells time by."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from actor_scheduler.limits import ALARM_US_MAX, SECOND_US

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """A wake-up that can be taken back."""

    def cancel(self) -> None:
        """Forget the wake-up; harmless after it happened."""


class Clock(Protocol):
    """Wall time, and one way to be woken. Two members: the wall clock decides, the timer only wakes."""

    def now_us(self) -> int:
        """Return the wall clock: microseconds since the Unix epoch, UTC. It may jump either way."""
        ...

    def call_at(self, when_us: int, callback: Callable[[], object]) -> Timer:
        """Call back on the event loop at about `when_us`. It may be early: look at `now_us` and ask again."""
        ...


class SystemClock:
    """The real clock. It wakes early rather than sleep over a minute, so that suspend and clock steps are noticed."""

    def now_us(self) -> int:
        """Return `time.time_ns()` in microseconds."""
        return time.time_ns() // 1_000

    def call_at(self, when_us: int, callback: Callable[[], object]) -> Timer:
        """Arm a timer of the running loop; monotonic, at most ALARM_US_MAX away."""
        wait_us = min(max(when_us - self.now_us(), 0), ALARM_US_MAX)
        return asyncio.get_running_loop().call_later(wait_us / SECOND_US, callback)


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


async def _woken(clock: Clock, when_us: int) -> None:
    woken = asyncio.Event()
    timer = clock.call_at(when_us, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()
