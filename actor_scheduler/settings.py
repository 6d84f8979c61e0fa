"""What operators have set while the app runs, kept over restarts: a pause of everything, and pools' limits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from actor_scheduler.errors import InvalidArgs
from actor_scheduler.store.base import Found, Set

if TYPE_CHECKING:
    from actor_scheduler.gates import Gates
    from actor_scheduler.queues import Routing

log = logging.getLogger("actor_scheduler")

PAUSED: Final = "paused"
POOL: Final = "pool:"
POOL_LIMIT_MAX: Final = 1_000_000


class PoolInfo(NamedTuple):
    """A pool as it stands: its name, how many of its actions may run at once, and how many do."""

    name: str
    limit: int
    running: int


class Settings:
    """The settings that hold, once the commit that keeps them is durable."""

    def __init__(self, routing: Routing) -> None:
        self._gates: Gates | None = None
        self._routing = routing
        self.paused: str | None = None  # the note of who paused everything; None: nothing is paused
        self.limits: dict[str, int] = {}  # of pools, where an operator has set one

    def begin(self, found: Found, gates: Gates) -> None:
        """Take what the store has kept, and let it hold; what does not fit is left aside."""
        paused = found.settings.get(PAUSED)
        self.paused = paused if isinstance(paused, str) else None
        self.limits = {
            name: limit
            for name, limit in found.settings.items()
            if name in self._pools() and type(limit) is int and 0 <= limit <= POOL_LIMIT_MAX
        }
        self._gates = gates
        gates.paused = self.paused is not None
        if self.paused is not None:
            log.warning("nothing is started: the scheduler is paused (%s); scheduler.resume() ends it", self.paused)
        for name, limit in self.limits.items():
            if limit == 0:
                log.warning("%s is paused; scheduler.set_pool(%r, None) ends it", name, name.removeprefix(POOL))
        for name in self._pools():  # also those that nobody has set: it may have been otherwise until now
            gates.set_limit(name, self.limits.get(name, self._declared(name)))

    def apply(self, unit: Set) -> None:
        """Let a setting hold that is durable now."""
        name, value = unit
        assert self._gates is not None
        if name == PAUSED:
            self.paused = str(value) if value is not None else None
            self._gates.paused = self.paused is not None
        elif name in self._pools():
            limit = self._declared(name) if value is None else int(value)
            if value is None:
                self.limits.pop(name, None)
            else:
                self.limits[name] = limit
            self._gates.set_limit(name, limit)

    def pools(self) -> list[PoolInfo]:
        """Return every pool, by name."""
        assert self._gates is not None
        return [
            PoolInfo(name.removeprefix(POOL), self.limits.get(name, self._declared(name)), self._gates.used(name))
            for name in sorted(self._pools())
        ]

    def pool(self, name: str, limit: Any) -> Set:
        """Return the change of a pool's limit; None for the declared one. Raises InvalidArgs."""
        if POOL + str(name) not in self._pools():
            known = ", ".join(pool.name for pool in self.pools()) or "none"
            msg = f"there is no pool called {name!r:.80}; declared are: {known}"
            raise InvalidArgs(msg)
        if limit is not None and (type(limit) is not int or not 0 <= limit <= POOL_LIMIT_MAX):
            msg = f"a pool's limit is a whole number from 0 (paused) to {POOL_LIMIT_MAX}, not {limit!r:.40}"
            raise InvalidArgs(msg)
        return Set(POOL + name, limit)

    def _pools(self) -> set[str]:
        return {name for name in self._routing.gates if name.startswith(POOL)}

    def _declared(self, name: str) -> int:
        limit = self._routing.gates[name]
        assert isinstance(limit, int)
        return limit
