"""Whether the clock can be right at a start. Pure.

A machine without a battery for its clock starts in 1970, or wherever, until the network tells it the time.  Dispatching
then would start everything, or nothing.
"""

from __future__ import annotations

from actor_scheduler.limits import AHEAD_US_MAX, CLOCK_BEHIND_US


def is_plausible(now_us: int, last_us: int | None) -> bool:
    """Return whether `now_us` may be the time, when `last_us` is the latest moment that is on record.

    Not when it is over a day before that, or further ahead of it than anything can be scheduled.
    """
    return last_us is None or last_us - CLOCK_BEHIND_US <= now_us <= last_us + AHEAD_US_MAX
