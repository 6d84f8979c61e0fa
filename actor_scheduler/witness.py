"""Who is told what every turn did: for counting, and for showing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actor_scheduler.store.base import TurnResult, Unit


class Witness(Protocol):
    """Hears of every turn that came back from the store, after its answers were released."""

    def turned(self, units: Sequence[Unit], result: TurnResult, took_us: int) -> None:
        """Hear what a turn was made of, what it gave, and how long it and its commit took. Never raises."""
        ...


class Nobody:
    """Listens to nothing."""

    def turned(self, units: Sequence[Unit], result: TurnResult, took_us: int) -> None:
        """Do nothing."""
