"""One alarm for the earliest fire time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from actor_scheduler.clock import Clock, Timer


class Alarm:
    """At most one timer. It wakes the actor; whether anything is due, the wall clock decides."""

    def __init__(self, clock: Clock, wake: Callable[[], object]) -> None:
        self._clock = clock
        self._wake = wake
        self._timer: Timer | None = None
        # Invariant: a timer is armed exactly when this is not None, for this moment or earlier.
        self.armed_at_us: int | None = None

    def arm(self, when_us: int | None) -> None:
        """Wake at `when_us` (None: not at all). Arming again for the same moment costs nothing."""
        if when_us == self.armed_at_us:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.armed_at_us = when_us
        if when_us is not None:
            self._timer = self._clock.call_at(when_us, self._ring)

    def _ring(self) -> None:
        # Disarmed first: the actor re-arms from the index, also when this wake-up was early.
        self._timer = None
        self.armed_at_us = None
        self._wake()
