"""Bugs to plant in what came later: retries, time limits, lanes, and the gates before the actions."""

from __future__ import annotations

from typing import Any

from actor_scheduler import retry
from actor_scheduler.attempts import Attempts
from actor_scheduler.gates import RateGate, Slots
from actor_scheduler.model import Entry
from actor_scheduler.settings import PAUSED, Settings
from actor_scheduler.store.sqlite import lanes, outcomes
from actor_scheduler.store.sqlite.jobs import JobWriter
from runtime import engine
from tests.proof.checker import Rule
from tests.simulation.planted import Patch, bug, nothing, reworded

# ------------------------------------------------------------------ retries, time limits, lanes, gates


@bug(Rule.RESCHEDULED)
def retry_rewrites_schedule() -> list[Patch]:
    """A retry writes its own moment over the one that was asked for."""
    return [reworded(outcomes, "_AGAIN_ACTION", "SET state", "SET scheduled_at_us = scheduled_at_us + 1, state")]


@bug(Rule.STARTED_TOO_OFTEN)
def one_attempt_more() -> list[Patch]:
    """A job is tried once more than it may be."""
    next_us = retry.next_attempt_us

    def generous(policy: Any, attempt: int, error: Any, chance: float) -> Any:
        return next_us(policy, attempt - 1, error, chance)

    return [Patch(engine, "next_attempt_us", generous)]


@bug(Rule.GAVE_UP)
def one_attempt_less() -> list[Patch]:
    """A job is tried once less than it may be."""
    next_us = retry.next_attempt_us

    def mean(policy: Any, attempt: int, error: Any, chance: float) -> Any:
        return next_us(policy, attempt + 1, error, chance)

    return [Patch(engine, "next_attempt_us", mean)]


@bug(Rule.PAUSE)
def no_pause() -> list[Patch]:
    """A failed attempt is followed by the next at once."""
    return [Patch(retry.Retry, "delay_us", lambda *_: 10_000)]


@bug(Rule.UNPLANNED)
def time_limit_ignored() -> list[Patch]:
    """An action runs as long as it likes."""
    return [Patch(Attempts, "_time_is_up", nothing)]


@bug(Rule.LANE)
def lane_ignored() -> list[Patch]:
    """Jobs of one lane wait side by side."""
    values = JobWriter._values

    def without(self: Any, job: Any, seq: int, nonce: int) -> Any:
        if job.lane is not None:
            self.changes.waits(job.queue, Entry(job.fire_at_us, seq))
        return values(self, job._replace(lane=None), seq, nonce)

    return [Patch(JobWriter, "_values", without)]


@bug(Rule.LANE)
def lane_let_go() -> list[Patch]:
    """A job that waits for its next attempt lets others of its lane go first."""
    return [
        reworded(lanes, "_HEAD", "ORDER BY attempt = 0, fire_at_us", "ORDER BY fire_at_us"),
        reworded(lanes, "_QUEUED", "fire_at_us, attempt FROM", "fire_at_us, 0 FROM"),
    ]


@bug(Rule.OVER_LIMIT)
def slots_not_taken() -> list[Patch]:
    """An action that starts takes no slot."""
    return [Patch(Slots, "started", nothing), Patch(Slots, "ended", nothing)]


@bug(Rule.UNFINISHED, Rule.ALARM)
def slots_not_given_back() -> list[Patch]:
    """An action that ends keeps its slot."""
    return [Patch(Slots, "ended", nothing)]


@bug(Rule.OVER_LIMIT)
def rate_ignored() -> list[Patch]:
    """A rate lets everything through."""
    return [Patch(RateGate, "room", lambda *_: 1_000)]


@bug(Rule.PAUSED)
def pause_ignored() -> list[Patch]:
    """A paused app goes on."""
    apply = Settings.apply

    def deaf(self: Any, unit: Any) -> None:
        if unit.name != PAUSED:
            apply(self, unit)

    return [Patch(Settings, "apply", deaf)]
