"""How late the event loop is: measured once a second, and only while somebody asks."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from actor_scheduler.clock import monotonic_us
from actor_scheduler.limits import SECOND_US

PROBE_SECONDS: Final = 1.0
ASKED_US: Final = 90 * SECOND_US  # after the last question it is measured no more: a scraper asks once a minute
KEPT: Final = 60  # measurements


class LoopLag:
    """The largest lateness of a timer in the last minute. An app that nobody watches is not woken for it."""

    def __init__(self) -> None:
        self._lags: deque[int] = deque(maxlen=KEPT)
        self._timer: asyncio.TimerHandle | None = None
        self._asked_us = 0

    def ask(self) -> int | None:
        """Return it, in microseconds; None until it was measured. It is measured from now on, for a while."""
        self._asked_us = monotonic_us()
        if self._timer is None:
            self._lags.clear()
            self._arm()
        return max(self._lags, default=None)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        expected_us = monotonic_us() + round(PROBE_SECONDS * SECOND_US)
        self._timer = asyncio.get_running_loop().call_later(PROBE_SECONDS, self._look, expected_us)

    def _look(self, expected_us: int) -> None:
        now_us = monotonic_us()
        self._lags.append(max(now_us - expected_us, 0))
        if now_us - self._asked_us < ASKED_US:
            self._arm()
        else:
            self._timer = None
