"""Telling everybody who watches an app what it does: hooks, counters, and live events. All of it is durable by then."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, get_args

from actor_scheduler.model import CRONS
from actor_scheduler.store.base import Claimed, Done, DropJob, DropJobs, Fired, Prune, Ran, RunDue, Set
from actor_scheduler.store.cron_units import ActivateCrons, CronUnit, StageCrons

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actor_scheduler.model import DueJob, Outcome
    from actor_scheduler.store.base import TurnResult, Unit
    from runtime.feed import Feed, What
    from runtime.hooks import Hooks
    from runtime.meter import Meter

log = logging.getLogger("actor_scheduler")

_STARTED: Final = (Ran, Claimed)
_OF_CRONS: Final = (*get_args(CronUnit), StageCrons, ActivateCrons)


class Observing:
    """Passes on what the actor tells. Never raises: nothing that watches can hurt a job."""

    def __init__(self, hooks: Hooks, meter: Meter, feed: Feed) -> None:
        self._hooks = hooks if hooks.any else None  # they come before the start, so none is added any more
        self._meter = meter
        self._feed = feed

    def starting(self, job: DueJob) -> None:
        """Tell of an attempt that is about to start."""
        self._meter.started(job.path)
        if self._hooks is not None:
            self._hooks.starting(job)
        if self._feed.listeners:
            self._feed.starting(job)

    def attempted(self, job: DueJob, outcome: Outcome, ended_at_us: int) -> None:
        """Tell of an attempt that ended."""
        self._meter.ended(job.path, outcome, ended_at_us)
        if self._hooks is not None:
            self._hooks.attempted(job, outcome, ended_at_us)
        if self._feed.listeners:
            self._feed.attempted(job, outcome, ended_at_us)

    def turned(self, units: Sequence[Unit], result: TurnResult, took_us: int) -> None:
        """Tell of a turn that came back from the store."""
        replies, lags = result.replies, []
        for place in range(len(replies) - 1, -1, -1):  # commands go first, and there may be thousands
            unit, reply = units[place], replies[place]
            if isinstance(unit, RunDue):
                value = reply.value if isinstance(reply, Done) else None
                if isinstance(value, _STARTED):
                    lags.append(value.job.dispatched_at_us - unit.entry.fire_at_us)
                elif isinstance(value, Fired):
                    self._meter.fired(value.runs, sum(drop.count for drop in value.drops))
            elif not isinstance(unit, Prune):
                break
        self._meter.turned(len(replies), took_us, lags)
        if self._feed.listeners:
            self._feed.changed(_changed(units, result))


def _changed(units: Sequence[Unit], result: TurnResult) -> set[What]:
    """Return what a turn changed besides the attempts that it started and ended."""
    what: set[What] = set()
    for queue, _ in (*result.effects.pending, *result.effects.gone):
        what.add("crons" if queue == CRONS else "jobs")
    for unit, reply in zip(units, result.replies, strict=False):
        if isinstance(reply, Done):
            match unit:
                case Set():
                    what.add("settings")
                case DropJob() | DropJobs():
                    what.add("jobs")
                case Prune() if reply.value.forgotten:
                    what.add("jobs")
                case RunDue() if isinstance(reply.value, Fired):
                    what.add("crons")
                case _ if isinstance(unit, _OF_CRONS):
                    what.add("crons")
    return what
