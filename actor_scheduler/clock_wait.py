"""Waiting, at a start, for a clock that can't be right to be set: nothing is dispatched by it until then."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from actor_scheduler.limits import CLOCK_WAIT_US, SECOND_US
from actor_scheduler.plausible import is_plausible
from actor_scheduler.times import to_datetime

if TYPE_CHECKING:
    from collections.abc import Callable

    from actor_scheduler.clock import Clock, Timer

log = logging.getLogger("actor_scheduler")


class ClockWait:
    """Looks at the clock every second, for CLOCK_WAIT_US at most; then it is believed, and the log says so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: Timer | None = None

    def begin(self, last_us: int | None, then: Callable[[], None]) -> None:
        """Call `then` once the clock can be right, or the wait is over: at once, as a rule."""
        clock = self._clock
        if is_plausible(clock.now_us(), last_us):
            then()
            return
        assert last_us is not None
        log.error(
            "the clock says %s, but the newest entry is of %s: no job is started before it is set, or %d s have passed",
            to_datetime(clock.now_us()), to_datetime(last_us), CLOCK_WAIT_US // SECOND_US,
        )  # fmt: skip
        until_us = clock.monotonic_us() + CLOCK_WAIT_US

        def look() -> None:
            plausible = is_plausible(clock.now_us(), last_us)
            if plausible or clock.monotonic_us() >= until_us:
                self._timer = None
                log.warning("jobs are started again; the clock %s", "was set" if plausible else "is taken at its word")
                then()
            else:
                self._timer = clock.call_at(clock.now_us() + SECOND_US, look)

        self._timer = clock.call_at(clock.now_us() + SECOND_US, look)

    def instead_us(self, last_us: int | None) -> int | None:
        """Return the time to go by for what can't wait until the clock is right; None where it can be right.

        The earlier one: what counts from too early a moment is late once, from too late a moment silent until then.
        """
        now_us = self._clock.now_us()
        return None if last_us is None or is_plausible(now_us, last_us) else min(now_us, last_us)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
