"""Waiting with a limit, on the app's own clock."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from actor_scheduler.clock import Clock, pass_span
from actor_scheduler.errors import TimedOut
from actor_scheduler.limits import SECOND_US, TIMEOUT_GRACE_US

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

T = TypeVar("T")

log = logging.getLogger("actor_scheduler")


async def within(clock: Clock, limit_us: int, work: Coroutine[Any, Any, T], what: str = "still waiting") -> T:
    """Return what `work` returns. Raises TimedOut, and cancels it, when the limit has passed; a clock step is none."""
    working = asyncio.ensure_future(work)
    sleeping = asyncio.ensure_future(pass_span(clock, limit_us))
    try:
        await asyncio.wait((working, sleeping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        msg = f"{what} after {limit_us / 1_000_000:g} s"
        raise TimedOut(msg)
    finally:
        working.cancel()
        sleeping.cancel()
        _, listens_not = await asyncio.wait((working, sleeping), timeout=TIMEOUT_GRACE_US / SECOND_US)
        if listens_not:
            log.error("%s, and ignores its cancellation; it goes on by itself", what)
