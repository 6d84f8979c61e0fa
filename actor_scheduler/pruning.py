"""When ended jobs are forgotten: in small batches, beside the work, and never by polling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actor_scheduler.limits import PRUNE_MAX, PRUNE_US
from actor_scheduler.retention import next_look_us
from actor_scheduler.store.base import Done, Prune, Pruned

if TYPE_CHECKING:
    from actor_scheduler.store.base import Found, Reply


class Pruning:
    """Knows when to look for jobs that were kept long enough."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self.due_us: int | None = None

    def begin(self, found: Found, now_us: int) -> None:
        """Start from what stands in the store. The first look lets the start's own work go first."""
        if self._enabled:
            self.due_us = next_look_us(now_us, found.prune_us, more=False)

    def unit(self, now_us: int) -> list[Prune]:
        """Return what the next turn is to forget, if it is time."""
        return [Prune(now_us, PRUNE_MAX)] if self.due_us is not None and self.due_us <= now_us else []

    def ended(self, now_us: int) -> None:
        """Jobs have ended: some day they can be forgotten, and perhaps before those that ended earlier."""
        soon_us = now_us + PRUNE_US
        if self._enabled and (self.due_us is None or self.due_us > soon_us):
            self.due_us = soon_us

    def answered(self, reply: Reply, now_us: int) -> None:
        """Decide on the next look; later, when the store could not take this one."""
        pruned = reply.value if isinstance(reply, Done) else None
        if isinstance(pruned, Pruned):
            self.due_us = next_look_us(now_us, pruned.next_us, more=pruned.forgotten >= PRUNE_MAX)
        else:
            self.due_us = now_us + PRUNE_US
