"""What must stand before anything is dispatched: an app's crons, and where their functions are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actor_scheduler.errors import StoreUnavailable, said
from actor_scheduler.shield import to_the_end
from actor_scheduler.store.base import Refused, Store, Unit, Unknown
from actor_scheduler.store.cron_units import StageCrons

if TYPE_CHECKING:
    from collections.abc import Sequence


async def take_first(store: Store, units: Sequence[Unit], now_us: int | None) -> list[Any]:
    """Have a store that was opened take these units, and return its answers; close it again when it can't.

    Raises what a unit was refused with, StoreUnavailable when it is not known whether it was taken.
    """
    left = [unit._replace(now_us=now_us) if isinstance(unit, StageCrons) else unit for unit in units]
    answers: list[Any] = []
    try:
        while left:
            for reply in (await store.apply(left, [])).replies:
                if isinstance(reply, Refused):
                    raise reply.error
                if isinstance(reply, Unknown):  # the next start finds it done, or does it
                    raise StoreUnavailable(said(reply.error)) from reply.error
                answers.append(reply.value)
                del left[0]
    except BaseException:
        await to_the_end(store.close(checkpoint=False))
        raise
    return answers
