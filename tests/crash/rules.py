"""What the crash test holds the app to: the promises, and how a broken one is told."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Rule(StrEnum):
    """The promises, one name each."""

    LOST = "an acknowledged job or mutation is gone"
    UNFINISHED = "a job has not ended though the app was left to finish"
    REFUSED_EXISTS = "something definitely refused exists"
    SPLIT = "a mutation's effect and its success differ"
    DOUBLED = "a mutation took effect more than once"
    JOB_DOUBLED = "one request made more than one job"
    STARTED_TWICE = "an action was started more often than it may be, or one attempt of it twice"
    ATTEMPTS = "an attempt was not counted, or counted twice"
    LANE = "two jobs of a lane ran at once, or in the wrong order"
    NOT_STARTED = "an action succeeded without having been started"
    EARLY = "something ran before it was due"
    CANCELED_RAN = "a job ran, or will, though its cancellation was acknowledged"
    CANCELED_BY_NOBODY = "a job is canceled and nobody canceled it"
    ROLLED_BACK = "something of a rolled-back mutation exists"
    CHILD_MISSING = "a committed function's scheduled job is missing"
    PARTIAL = "a part of an all-or-none batch exists"
    IDEMPOTENCY = "one idempotency key stands for more than one call"
    ID_REUSED = "one id, or its number, was given out for two jobs"
    NUMBER_REUSED = "the number of a rolled-back job, whose id was handed out, was given out again"
    STATE_CHANGED = "a job that was seen ended has another state now"
    UNPLANNED = "a job's outcome is not the one its function gave"
    GHOST = "something exists that nobody asked for, or that was dropped"
    SETTING = "an acknowledged setting does not hold"
    UNEXPECTED = "a call failed in an unexpected way"
    FILE = "the file is damaged"
    TICK_LOST = "a tick neither ran nor was skipped"
    TICK_TWICE = "a tick is accounted for twice"
    TICK_COUNT = "a stretch of skipped ticks has another count"
    WATERMARK = "a cron was accounted for up to a moment, and then up to an earlier one"
    CRON_LOST = "a cron that must be there is gone, or is another one"
    CRON_GHOST = "a cron is there that nobody defined or registered, or that was deleted"
    CRON_STOPPED = "a cron does not go on"


CRON_RULES = frozenset({
    Rule.TICK_LOST, Rule.TICK_TWICE, Rule.TICK_COUNT, Rule.WATERMARK, Rule.CRON_LOST, Rule.CRON_GHOST, Rule.CRON_STOPPED
})  # fmt: skip


class Violation(NamedTuple):
    """One broken promise."""

    rule: Rule
    subject: str
    detail: str = ""
