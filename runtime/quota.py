"""Quotas: how much one principal may call, so that nobody's flood becomes everybody's wait."""

from __future__ import annotations

import contextlib
import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Generic

from typing_extensions import TypeVar as DefaultTypeVar

from actor_scheduler.errors import InvalidArgs, Overloaded
from actor_scheduler.gates import RateGate
from actor_scheduler.limits import SECOND_US
from actor_scheduler.queues import Rate, parse_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from actor_scheduler.clock import Clock

AuthT = DefaultTypeVar("AuthT", default=Any)

PRINCIPALS_MAX: Final = 10_000  # remembered at once; beside what they called in the last period, ~0.5 kB each
IN_FLIGHT_MAX: Final = 1_000_000


class Quota(Generic[AuthT]):
    """How much one principal may call: over it a call raises Overloaded, and nothing of it has run.

    It bounds live calls that have an identity: `app.acting_as(auth).call(…)` and `app.idempotent(key, auth=…)`.  Calls
    without one, what functions call themselves, and scheduled jobs are not bounded.

    `key(auth)` names whose call it is, with anything hashable; None lets the call pass unbounded, and what it raises,
    the call raises.  `calls` is a rate ("50/s", "1000/h"): at most so many begin in any span of that length, good or
    bad.  `in_flight` is how many may be under way at once.  One of the two must be given.

    The 10,000 principals that called last are remembered, and those with calls under way; one that is idle is
    forgotten, and so are all at a restart.  Raises InvalidArgs for what does not fit.
    """

    def __init__(
        self, key: Callable[[AuthT], Hashable | None], *, calls: str | None = None, in_flight: int | None = None
    ) -> None:
        if not callable(key) or inspect.iscoroutinefunction(key):
            msg = "key is a plain function of the auth, and returns whose call it is"
            raise InvalidArgs(msg)
        if calls is None and in_flight is None:
            msg = 'a quota bounds something: calls="50/s", in_flight=20, or both'
            raise InvalidArgs(msg)
        if in_flight is not None and (type(in_flight) is not int or not 1 <= in_flight <= IN_FLIGHT_MAX):
            msg = f"in_flight is a whole number from 1 to {IN_FLIGHT_MAX}, not {in_flight!r:.40}"
            raise InvalidArgs(msg)
        self.key: Final = key
        self.calls: Final[Rate | None] = None if calls is None else parse_rate(calls)
        self.in_flight: Final = in_flight


class _Principal:
    """What one principal has called."""

    __slots__ = ("gate", "in_flight", "last_us")

    def __init__(self, calls: Rate | None) -> None:
        self.gate = RateGate(calls) if calls is not None else None
        self.in_flight = 0
        self.last_us = 0


class Usage:
    """Who has called how much, against the quota. Time is the clock's that no step moves.

    Invariant: `_principals` holds every one with a call under way; the others stand in order of their last call.
    """

    def __init__(self, quota: Quota[Any], clock: Clock) -> None:
        self._quota = quota
        self._clock = clock
        self._period_us = quota.calls.period_us if quota.calls is not None else 0
        self._principals: OrderedDict[Hashable, _Principal] = OrderedDict()

    def __len__(self) -> int:
        """Return how many principals are remembered."""
        return len(self._principals)

    @contextlib.contextmanager
    def admitted(self, auth: object) -> Iterator[None]:
        """Count a call of this identity while the block runs. Raises Overloaded, or what `key` raises."""
        who = None if auth is None else self._quota.key(auth)
        if who is None:
            yield
            return
        now_us = self._clock.monotonic_us()
        principal = self._principals.get(who) or _Principal(self._quota.calls)
        self._check(principal, now_us)
        self._principals[who] = principal
        self._principals.move_to_end(who)
        principal.last_us = now_us
        principal.in_flight += 1
        if principal.gate is not None:
            principal.gate.started(now_us)
        self._forget(now_us)
        try:
            yield
        finally:
            principal.in_flight -= 1

    def _check(self, principal: _Principal, now_us: int) -> None:
        most, calls = self._quota.in_flight, self._quota.calls
        if most is not None and principal.in_flight >= most:
            msg = f"over quota: {most} calls of this caller are under way; nothing ran, try again when one has ended"
            raise Overloaded(msg)
        if principal.gate is not None and calls is not None and principal.gate.room(now_us) <= 0:
            wait_us = (principal.gate.opens_at_us() or now_us) - now_us
            msg = (
                f"over quota: {calls.starts} calls of this caller within {calls.period_us / SECOND_US:g} s;"
                f" nothing ran, try again in {wait_us / SECOND_US:.3g} s"
            )
            raise Overloaded(msg)

    def _forget(self, now_us: int) -> None:
        """Forget who is idle, the longest first: two for each that comes, so that it takes no time at once."""
        for who, principal in [item for item, _ in zip(self._principals.items(), range(2), strict=False)]:
            idle = now_us - principal.last_us >= self._period_us
            if principal.in_flight:
                self._principals.move_to_end(who)
            elif idle or len(self._principals) > PRINCIPALS_MAX:
                del self._principals[who]
