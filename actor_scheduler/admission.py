"""Whether a call can be served at all: where it comes from, and whether the app runs."""

from __future__ import annotations

import asyncio

from actor_scheduler.errors import ContextClosed, NotStarted


def check_admission(loop: asyncio.AbstractEventLoop | None, *, accepting: bool) -> None:
    """Raise NotStarted when the app takes no calls, ContextClosed on another event loop than the app's, or on none."""
    if not accepting:
        msg = "the app is not running: enter its lifespan first (async with app, or FastAPI(lifespan=app.lifespan))"
        raise NotStarted(msg)
    if asyncio._get_running_loop() is not loop:  # noqa: SLF001 - get_running_loop raises where there is none
        msg = (
            "this handle belongs to the event loop the app runs on. "
            "Inside a query or mutation use ctx, never the app: its awaits can't run there"
        )
        raise ContextClosed(msg)
