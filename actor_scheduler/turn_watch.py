"""Watching the turn under way: a slow one is told to the log, and one that does not end stops what comes after it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import WriterStuck
from actor_scheduler.limits import SECOND_US, SLOW_TURN_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger("actor_scheduler")


class TurnWatch:
    """Knows whether the writer is stuck: a turn can't be stopped from outside without breaking its thread."""

    def __init__(
        self, stuck_seconds: float, busy_with: Callable[[], str], on_stuck: Callable[[WriterStuck], object]
    ) -> None:
        self._stuck_seconds = stuck_seconds
        self._busy_with = busy_with
        self._on_stuck = on_stuck
        self.under_way = False
        self.took_us = 0  # the last one
        self.stuck: WriterStuck | None = None  # why nothing is accepted

    @contextlib.contextmanager
    def turn(self, units: int) -> Iterator[None]:
        """Watch one turn of so many units."""
        watch = asyncio.get_running_loop().call_later(self._stuck_seconds, self._notice)
        began_us = monotonic_us()
        self.under_way = True
        try:
            yield
        finally:
            self.under_way = False
            watch.cancel()
            self.took_us = took_us = monotonic_us() - began_us
            if self.stuck is not None:
                log.warning("the writer goes on")
                self.stuck = None
            elif took_us > SLOW_TURN_US:
                seconds = took_us / SECOND_US
                log.warning("a turn of %d unit(s) took %.1f s: a slow disk, or a slow mutation", units, seconds)

    def _notice(self) -> None:
        self.stuck = WriterStuck(
            f"the writer has been busy for over {self._stuck_seconds:g} s; nothing is accepted until it goes on",
        )
        log.critical("%s. It stands at:\n%s", self.stuck, self._busy_with())
        self._on_stuck(self.stuck)
