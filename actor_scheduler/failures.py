"""Saying that a job failed: never silently, and never more than an operator wants to read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actor_scheduler.model import DueJob, Failed

log = logging.getLogger("actor_scheduler")


def log_failure(job: DueJob, failure: Failed) -> None:
    """Log a failed attempt: a failure on purpose (a FunctionError) in one line, anything else with its traceback."""
    if failure.code is not None:
        log.warning("%s %s failed: %s", job.path, job.id, failure.error)
    else:
        trace = f"\n{failure.traceback}" if failure.traceback else ""
        log.error("%s %s failed (%s): %s%s", job.path, job.id, failure.cause, failure.error, trace)
