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

    __slots__ = ("_clock", "callback", "key")

    def __init__(self, clock: VirtualClock, key: tuple[int, int], callback: Callable[[], object]) -> None:
        self._clock = clock
        self.key = key
        self.callback = callback

    def cancel(self) -> None:
        """Forget the wake-up; harmless after it happened."""
        self._clock._timers.pop(self.key, None)  # noqa: SLF001 - a timer is a part of its clock


class VirtualClock:
    """A Clock for tests. `now_us` stands still; `move_to` moves it and rings every timer on the way.

    Wall time may also be stepped (`step`) without ringing: what an NTP correction or a suspended host looks like.
    """

    def __init__(self, start_us: int = START_US) -> None:
        self._now_us = start_us
        self._passed_us = 0
        self._order = itertools.count()
        # Invariant: each timer stands under its own key: when it rings, and the order in which it was asked for.
        self._timers: SortedDict[tuple[int, int], VirtualTimer] = SortedDict()

    def now_us(self) -> int:
        """Return the virtual wall clock."""
        return self._now_us

    def monotonic_us(self) -> int:
        """Return how much time was let pass; steps are none."""
        return self._passed_us

    def call_at(self, when_us: int, callback: Callable[[], object]) -> VirtualTimer:
        """Call back when the clock is moved to `when_us` or past it; a past moment rings with the next move."""
        timer = VirtualTimer(self, (when_us, next(self._order)), callback)
        self._timers[timer.key] = timer
        return timer

    def next_timer_us(self) -> int | None:
        """Return when the earliest timer rings; None when there is none."""
        return self._timers.peekitem(0)[0][0] if self._timers else None

    def move_to(self, when_us: int) -> None:
        """Set the clock to `when_us`, never back, and ring what is due by then, in order."""
        self._passed_us += max(when_us - self._now_us, 0)
        self._now_us = max(self._now_us, when_us)
        self.ring()

    def ring(self) -> None:
        """Ring every timer that is due, in order; those set meanwhile too, if they are due."""
        while self._timers and self._timers.peekitem(0)[0][0] <= self._now_us:
            _, timer = self._timers.popitem(0)
            timer.callback()

    def ring_early(self) -> None:
        """Ring every timer that is armed now, however early, as a coarse or impatient event loop would."""
        armed = list(self._timers.values())
        self._timers.clear()
        for timer in armed:
            timer.callback()

    def step(self, delta_us: int) -> None:
        """Step the wall clock, in either direction, without ringing anything.

        A timer measures a span, not a moment: when the clock is set back, it still rings after the span it was asked
        for.  When it is set forward, it rings with the next move, as the real clock's cap on one sleep brings about.
        """
        self._now_us += delta_us
        if delta_us < 0:
            timers = list(self._timers.values())
            self._timers.clear()
            for timer in timers:
                timer.key = (timer.key[0] + delta_us, timer.key[1])
                self._timers[timer.key] = timer
