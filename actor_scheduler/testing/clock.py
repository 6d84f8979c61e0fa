"""The virtual clock: time that only moves when told, and then wakes whoever asked, in order."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedDict

if TYPE_CHECKING:
    from collections.abc import Callable

START_US: Final = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


class VirtualTimer:
    """A wake-up in virtual time."""

    __slots__ = ("_clock", "_key")

    def __init__(self, clock: VirtualClock, key: tuple[int, int]) -> None:
        self._clock = clock
        self._key = key

    def cancel(self) -> None:
        """Forget the wake-up; harmless after it happened."""
        self._clock._timers.pop(self._key, None)  # noqa: SLF001 - a timer is a part of its clock


class VirtualClock:
    """A Clock for tests. `now_us` stands still; `move_to` moves it and rings every timer on the way.

    Wall time may also be stepped (`step`) without ringing: what an NTP correction or a suspended host looks like.
    """

    def __init__(self, start_us: int = START_US) -> None:
        self._now_us = start_us
        self._order = itertools.count()
        self._timers: SortedDict[tuple[int, int], Callable[[], object]] = SortedDict()

    def now_us(self) -> int:
        """Return the virtual wall clock."""
        return self._now_us

    def call_at(self, when_us: int, callback: Callable[[], object]) -> VirtualTimer:
        """Call back when the clock is moved to `when_us` or past it; a past moment rings with the next move."""
        key = (when_us, next(self._order))
        self._timers[key] = callback
        return VirtualTimer(self, key)

    def next_timer_us(self) -> int | None:
        """Return when the earliest timer rings; None when there is none."""
        return self._timers.peekitem(0)[0][0] if self._timers else None

    def move_to(self, when_us: int) -> None:
        """Set the clock to `when_us`, never back, and ring what is due by then, in order."""
        self._now_us = max(self._now_us, when_us)
        self.ring()

    def ring(self) -> None:
        """Ring every timer that is due, in order; those set meanwhile too, if they are due."""
        while self._timers and self._timers.peekitem(0)[0][0] <= self._now_us:
            _, callback = self._timers.popitem(0)
            callback()

    def step(self, delta_us: int) -> None:
        """Step the wall clock, in either direction, without ringing anything."""
        self._now_us += delta_us
