"""What bounds the actions that run: slots of the app, of pools and functions, and rates. Time is an argument."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from actor_scheduler.model import CRONS
from actor_scheduler.queues import SLOTS, Rate, Routing, base_of, holds_actions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Gate(Protocol):
    """Something that lets a number of starts through."""

    def room(self, now_us: int) -> int:
        """Return how many may start now."""
        ...

    def opens_at_us(self) -> int | None:
        """Return when a shut gate opens by itself; None when that needs an end, or somebody's word."""
        ...

    def started(self, now_us: int) -> None:
        """Count a start."""
        ...

    def ended(self) -> None:
        """Count an end."""
        ...


class Slots:
    """At most `limit` at once; 0 lets nothing through."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def room(self, now_us: int) -> int:
        """Return how many more may run."""
        del now_us
        return max(self.limit - self.used, 0)

    def opens_at_us(self) -> int | None:
        """Return None: somebody must end first."""
        return None

    def started(self, now_us: int) -> None:
        """Take a slot."""
        del now_us
        self.used += 1

    def ended(self) -> None:
        """Give a slot back."""
        self.used -= 1


class RateGate:
    """At most `rate.starts` starts in any span of `rate.period_us`.

    Invariant: `_starts` holds, in order, every start of the last period, and no other.  A clock that was set back makes
    starts that are yet to come: each counts as one of now, so that a step back never lets more through.
    """

    def __init__(self, rate: Rate, starts: Iterable[int] = ()) -> None:
        self._rate = rate
        self._starts = deque(sorted(starts)[-rate.starts :])

    def room(self, now_us: int) -> int:
        """Return how many may start within the period that ends now."""
        starts, began_us = self._starts, now_us - self._rate.period_us
        while starts and starts[0] <= began_us:
            starts.popleft()
        if starts and starts[-1] > now_us:
            self._starts = starts = deque(min(start, now_us) for start in starts)
        return self._rate.starts - len(starts)

    def opens_at_us(self) -> int | None:
        """Return when the start that is in the way is a period ago."""
        in_the_way = len(self._starts) - self._rate.starts
        return self._starts[in_the_way] + self._rate.period_us if in_the_way >= 0 else None

    def started(self, now_us: int) -> None:
        """Remember a start."""
        self._starts.append(now_us)

    def ended(self) -> None:
        """Nothing ends sooner for it."""


class Gates:
    """All gates of an app, and which of them a queue passes."""

    def __init__(
        self, routing: Routing, slots: int, starts: Mapping[str, Iterable[int]], *, ticks: bool = True
    ) -> None:
        """Make the gates; `starts` is what each rate has let through before. Without `ticks` no cron fires."""
        self._passes = routing.passes
        self._gates: dict[str, Gate] = {SLOTS: Slots(slots)}
        self._by_queue: dict[str, tuple[Gate, ...]] = {} if ticks else {CRONS: (Slots(0),)}
        for name, limit in routing.gates.items():
            if isinstance(limit, Rate):
                self._gates[name] = RateGate(limit, starts.get(name, ()))
            else:
                self._gates[name] = Slots(limit)
        self.paused = False

    def of(self, queue: str) -> tuple[Gate, ...]:
        """Return the gates that a queue's starts pass; none for mutations and crons."""
        gates = self._by_queue.get(queue)
        if gates is None:
            names = (SLOTS, *self._passes.get(base_of(queue), ())) if holds_actions(queue) else ()
            gates = self._by_queue[queue] = tuple(self._gates[name] for name in names)
        return gates

    def set_limit(self, name: str, limit: int) -> None:
        """Change how many of a pool may run at once; those that run go on."""
        gate = self._gates[name]
        assert isinstance(gate, Slots)
        gate.limit = limit

    def used(self, name: str) -> int:
        """Return how many of a pool run."""
        gate = self._gates[name]
        assert isinstance(gate, Slots)
        return gate.used

    def started(self, queue: str, now_us: int) -> None:
        """Count a start."""
        for gate in self.of(queue):
            gate.started(now_us)

    def ended(self, queue: str) -> None:
        """Count the real end of an attempt."""
        for gate in self.of(queue):
            gate.ended()

    def room(self, now_us: int) -> Room:
        """Return what is free now, to be spent by one round of picking."""
        return Room(self, now_us)

    def opens_at_us(self, queue: str, now_us: int) -> int | None:
        """Return from when on a queue may start something: now, later, or None when that is not for time to say."""
        if self.paused:
            return None
        opens_us = now_us
        for gate in self.of(queue):
            if gate.room(now_us) <= 0:
                opens = gate.opens_at_us()
                if opens is None:
                    return None
                opens_us = max(opens_us, opens)
        return opens_us


class Room:
    """What is free at one moment. Spending it here counts no start: a picked job may turn out to be canceled."""

    def __init__(self, gates: Gates, now_us: int) -> None:
        self._gates = gates
        self._now_us = now_us
        self._spent: dict[Gate, int] = {}

    def of(self, queue: str, most: int) -> int:
        """Return how many of a queue may still be picked, at most `most`."""
        if self._gates.paused:
            return 0
        for gate in self._gates.of(queue):
            most = min(most, gate.room(self._now_us) - self._spent.get(gate, 0))
        return most

    def spend(self, queue: str, count: int) -> None:
        """Take room away from every gate of a queue."""
        for gate in self._gates.of(queue):
            self._spent[gate] = self._spent.get(gate, 0) + count
