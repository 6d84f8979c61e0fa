"""Bugs to plant in the store, to show that failing I/O finds them. Only a run that was told to be wrong imports this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from actor_scheduler.actor import Actor
from actor_scheduler.errors import OutcomeUnknown, StoreUnavailable
from actor_scheduler.store.sqlite.turn import Definite, TurnRunner
from tests.crash.planted import _put


def _no_for_unknown() -> None:
    """A commit whose flush failed is answered with a definite no (trap T2)."""
    commit = TurnRunner._commit

    def sure(self: Any) -> None:
        try:
            commit(self)
        except OutcomeUnknown as error:
            raise Definite(StoreUnavailable(str(error)), None) from error

    _put(TurnRunner, "_commit", sure)


def _yes_for_failed() -> None:
    """A commit's error is overlooked, and its callers are told that all is well."""
    commit = TurnRunner._commit

    def blind(self: Any) -> None:
        try:
            commit(self)
        except (OutcomeUnknown, Definite):
            return

    _put(TurnRunner, "_commit", blind)


def _gives_up() -> None:
    """A store that could not be reopened at once is never tried again."""
    reopen = Actor._reopen

    async def once(self: Any) -> bool:
        if getattr(self, "gave_up", False):
            return False
        self.gave_up = not await reopen(self)
        return not self.gave_up

    _put(Actor, "_reopen", once)


PLANTS: Final[dict[str, Callable[[], None]]] = {
    "no_for_unknown": _no_for_unknown, "yes_for_failed": _yes_for_failed, "gives_up": _gives_up,
}  # fmt: skip


def plant(name: str) -> None:
    """Plant one bug in this process, and in those forked from it."""
    PLANTS[name]()
