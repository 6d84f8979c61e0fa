"""The simulated wall clock, and its alarms: stepped, suspended, early and late, as the seed says."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from actor_scheduler.testing.clock import START_US
from tests.simulation.loop import SECOND_US, SimLoop

if TYPE_CHECKING:
    import asyncio

    from tests.simulation.options import Options

WATCHDOG_US: Final = 60 * SECOND_US  # no alarm sleeps longer than this when the clock was stepped meanwhile
_SPINS_MAX: Final = 300  # alarms in a row for a moment that has passed already
_MEMORY_US: Final = 300 * SECOND_US  # a turn that began before a step back may end this much later


class SimTimer:
    """One alarm."""

    def __init__(self, clock: SimClock, when_us: int, callback: Callable[[], object]) -> None:
        self.clock = clock
        self.when_us = when_us
        self.callback = callback
        self.handle: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Ring, and be gone."""
        self.clock.timers.pop(self, None)
        self.callback()

    def cancel(self) -> None:
        """Forget it."""
        self.clock.timers.pop(self, None)
        if self.handle is not None:
            self.handle.cancel()


class SimClock:
    """A Clock of the app: virtual monotonic time and an offset that may be stepped.

    It outlives the simulated processes; `attach` gives it the loop of the next one.
    """

    def __init__(self, options: Options, rng: random.Random, fired: Counter[str]) -> None:
        self._options = options
        self._rng = rng
        self._fired = fired
        self._loop: SimLoop | None = None
        self.offset_us = START_US
        self.timers: dict[SimTimer, None] = {}
        self.healed = False
        self.spins: Callable[[], object] = lambda: None  # told when the app keeps waking itself for nothing
        self._spun = (0, 0)  # the moment, and how often at it
        self._highs: list[tuple[int, int]] = []  # when the clock was set back, and what it showed before

    def attach(self, loop: SimLoop) -> None:
        """Go on with the loop of another life."""
        self._loop = loop
        self.timers.clear()

    @property
    def mono_us(self) -> int:
        """Virtual time that no step touches."""
        assert self._loop is not None
        return self._loop.mono_us

    def now_us(self) -> int:
        """Return the wall clock."""
        return self.mono_us + self.offset_us

    def monotonic_us(self) -> int:
        """Return virtual time that no step touches, as the port has it."""
        return self.mono_us

    def high_us(self) -> int:
        """Return the latest that the wall clock has shown in the last minutes: what was due then may run now."""
        highest = self.now_us()
        for at_us, shown_us in reversed(self._highs):
            if at_us < self.mono_us - _MEMORY_US:
                break
            highest = max(highest, shown_us)
        return highest

    def call_at(self, when_us: int, callback: Callable[[], object]) -> SimTimer:
        """Call back at about `when_us`; early or late when the options say so."""
        timer = SimTimer(self, when_us, callback)
        self.timers[timer] = None
        wait_us = when_us - self.now_us()
        self._arm(timer, wait_us if wait_us > 0 else self._spin_us())
        return timer

    def _spin_us(self) -> int:
        """Return how long an alarm waits whose moment has passed: not at all, unless they follow each other for ever."""
        at_us, times = self._spun
        self._spun = (self.mono_us, times + 1 if at_us == self.mono_us else 1)
        if times < _SPINS_MAX:
            return 0
        if times == _SPINS_MAX:
            self.spins()
        return SECOND_US

    def _arm(self, timer: SimTimer, wait_us: int) -> None:
        assert self._loop is not None
        options, rng = self._options, self._rng
        if not self.healed and wait_us > 0:
            if options.early and rng.random() < options.early:
                wait_us -= min(wait_us, rng.choice((1, 1_000, wait_us // 2 + 1, wait_us)))
                self._fired["alarm early"] += 1
            elif options.late and rng.random() < options.late:
                wait_us += rng.randrange(WATCHDOG_US)
                self._fired["alarm frozen"] += 1
        timer.handle = self._loop.call_at((self.mono_us + wait_us) / SECOND_US, timer.ring)

    def step(self, delta_us: int) -> None:
        """Set the clock. Every alarm notices within the watchdog's minute."""
        if delta_us < 0:
            self._highs.append((self.mono_us, self.now_us()))
        self.offset_us += delta_us
        assert self._loop is not None
        for timer in list(self.timers):
            if timer.handle is not None:
                timer.handle.cancel()
            wait_us = min(max(timer.when_us - self.now_us(), 0), self._rng.randrange(1, WATCHDOG_US))
            timer.handle = self._loop.call_at((self.mono_us + wait_us) / SECOND_US, timer.ring)

    def heal(self) -> None:
        """Show the right time again, if that is later, and ring on time from now on."""
        self.healed = True
        self.offset_us = max(self.offset_us, START_US)
