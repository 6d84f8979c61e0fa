"""Waiting, longer each time, while the store takes nothing: a full disk must not become a busy loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actor_scheduler.limits import SECOND_US

if TYPE_CHECKING:
    from actor_scheduler.clock import Clock

HOLD_US_MIN: Final = SECOND_US // 10
HOLD_US_MAX: Final = 5 * SECOND_US  # the store is tried again at least this often


class Hold:
    """Until when due work waits. Live commands are not held: each of them tries, and gets its own answer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next_us = HOLD_US_MIN
        self._began_us = 0
        self.until_us: int | None = None

    @property
    def active(self) -> bool:
        """Whether due work must wait now."""
        # Not before it began either: a clock that was set back by a year must not hold for a year.
        return self.until_us is not None and self._began_us <= self._clock.now_us() < self.until_us

    def lengthen(self) -> None:
        """Wait from now on, twice as long as the last time."""
        self._began_us = self._clock.now_us()
        self.until_us = self._began_us + self._next_us
        self._next_us = min(self._next_us * 2, HOLD_US_MAX)

    def clear(self) -> None:
        """Wait no more: the store took something."""
        self.until_us = None
        self._next_us = HOLD_US_MIN
