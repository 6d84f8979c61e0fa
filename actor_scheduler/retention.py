"""How long ended jobs are kept. Pure."""

from __future__ import annotations

from actor_scheduler.limits import PRUNE_US


def prune_at_us(completed_at_us: int, keep_us: int | None) -> int | None:
    """Return from when on an ended job may be forgotten; None for never."""
    return None if keep_us is None else completed_at_us + keep_us


def next_look_us(now_us: int, next_us: int | None, *, more: bool) -> int | None:
    """Return when to look again for jobs to forget.

    At once when the last batch was full (`more`); else when the next one may go, but not before PRUNE_US have passed:
    what goes one by one goes together.  None while nothing waits for it.
    """
    if more:
        return now_us
    return None if next_us is None else max(next_us, now_us + PRUNE_US)
