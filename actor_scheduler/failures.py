"""Saying that a job failed, or a tick was dropped: never silently, and never more than an operator wants to read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from actor_scheduler.errors import printable
from actor_scheduler.model import Again, Failed, Outcome, Stopped
from actor_scheduler.times import to_iso

if TYPE_CHECKING:
    from actor_scheduler.model import DueJob
    from actor_scheduler.store.base import Fired

log = logging.getLogger("actor_scheduler")


def tell(job: DueJob, outcome: Outcome, *, ended: bool) -> Outcome:
    """Log how an attempt ended, and return what was stored of it.

    A failed one that another was to follow `ended` its job when it was canceled meanwhile.
    """
    if isinstance(outcome, Again) and ended:
        log.warning("%s %s failed after it was canceled: %s", job.path, job.id, printable(outcome.failure.error))
        return Stopped(outcome.failure)
    if isinstance(outcome, Failed | Again):
        log_failure(job, outcome)
    return outcome


def log_failure(job: DueJob, outcome: Failed | Again) -> None:
    """Log a failed attempt: one that is followed by another, or a failure on purpose (a FunctionError), in one line.

    Text that came from anywhere can't move a terminal that shows the log.
    """
    path, failure = printable(job.path), outcome.failure if isinstance(outcome, Again) else outcome
    error = printable(failure.error)
    if isinstance(outcome, Again):
        pause = outcome.delay_us / 1_000_000
        log.warning("%s %s attempt %d failed, again in %.3g s: %s", path, job.id, job.attempt, pause, error)
    elif failure.code is not None:
        log.warning("%s %s failed: %s", path, job.id, error)
    else:
        trace = f"\n{printable(failure.traceback)}" if failure.traceback else ""
        log.error("%s %s failed (%s): %s%s", path, job.id, failure.cause, error, trace)


def log_drops(fired: Fired) -> None:
    """Log the ticks of a cron that do not run: what an overlap or a pause drops is as its definition wants it."""
    for reason, first_us, last_us, count in fired.drops:
        level = logging.INFO if reason in ("overlap", "paused") else logging.WARNING
        span = to_iso(last_us) if count == 1 else f"{to_iso(first_us)} to {to_iso(last_us)}"
        log.log(level, "cron %s: %d tick(s) do not run (%s): %s", fired.cron, count, reason, span)
