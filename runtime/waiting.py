"""Waiting with a limit, on the app's own clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from actor_scheduler.clock import Clock, sleep_until

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

T = TypeVar("T")


async def within(clock: Clock, limit_us: int, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. Raises TimeoutError, and cancels it, when `clock` shows that the limit has passed."""
    working = asyncio.ensure_future(work)
    sleeping = asyncio.ensure_future(sleep_until(clock, clock.now_us() + limit_us))
    try:
        await asyncio.wait((working, sleeping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        msg = f"still waiting after {limit_us / 1_000_000:g} s"
        raise TimeoutError(msg)
    finally:
        working.cancel()
        sleeping.cancel()
        await asyncio.gather(working, sleeping, return_exceptions=True)
