"""What the store tells of crons: how they stand, what became of their ticks, and which manifest holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from actor_scheduler.crons.catchup import MissedTicks, Overlap, SkipReason
    from actor_scheduler.crons.schedule import Schedule
    from actor_scheduler.crons.spec import CronClock, CronSpec, Origin
    from actor_scheduler.model import State

RunState: TypeAlias = "State | Literal['skipped']"
ManifestState: TypeAlias = Literal["staged", "active", "retired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CronInfo:
    """One cron, as it stood when it was read.

    `next_at` is its next tick, without the jitter; None when none comes by itself: it is paused, disabled, on an
    outside clock, or `trouble` says why it can't go on.  Every tick up to `accounted_to` ran, or is on record as
    skipped; `anchored_at` is where an interval counts from.  `origin` is `manifest` for one that the code defines,
    `runtime` for one that was registered.
    `schedule` and `spec` are None only where `trouble` says that they can't be read.
    """

    name: str
    schedule: Schedule | None
    path: str
    args: Mapping[str, Any]
    next_at: datetime | None
    accounted_to: datetime
    anchored_at: datetime
    paused: bool
    note: str
    origin: Origin
    trouble: str | None
    spec: CronSpec | None

    @property
    def enabled(self) -> bool:
        """Whether it has ticks at all."""
        return self.spec is not None and self.spec.enabled

    @property
    def clock(self) -> CronClock | None:
        """Whose clock it goes by."""
        return self.spec.clock if self.spec is not None else None

    @property
    def missed_tick_policy(self) -> MissedTicks | None:
        """What becomes of missed ticks."""
        return self.spec.rule.missed if self.spec is not None else None

    @property
    def max_catch_up_ticks(self) -> int | None:
        """How many of them run at most under `all`."""
        return self.spec.rule.max_ticks if self.spec is not None else None

    @property
    def max_catch_up_age(self) -> timedelta | None:
        """How old they may be under `all`; None for any age."""
        age_us = self.spec.rule.max_age_us if self.spec is not None else None
        return None if age_us is None else timedelta(microseconds=age_us)

    @property
    def overlap(self) -> Overlap | None:
        """What becomes of a tick while a run has not ended."""
        return self.spec.rule.overlap if self.spec is not None else None

    @property
    def jitter(self) -> timedelta:
        """How long after a tick it may fire."""
        return timedelta(microseconds=self.spec.jitter_us if self.spec is not None else 0)

    @property
    def description(self) -> str:
        """What people are told of it."""
        return self.spec.description if self.spec is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CronRun:
    """What became of a tick, or of a stretch of ticks that did not run.

    A run is a job: its state, its attempts, and what they gave.  A skip has the state `skipped`, a `reason`, and
    `ticks` of them, from `first_tick` to `tick`; so has an occurrence that was skipped before it started.  Of a run,
    `skipped` is how many ticks were dropped since the run before; `ticks` is 1, or 0 for one by hand, so that a sum of
    `ticks` counts each tick once.  `lag` is how long after its tick the last attempt started, jitter included.
    `manual` marks a run that was asked for by hand; its `tick` is what it was told.  An attempt that was
    interrupted has no `duration`.
    """

    cron: str
    tick: datetime
    first_tick: datetime
    state: RunState
    reason: SkipReason | None = None
    ticks: int = 1
    skipped: int = 0
    manual: bool = False
    job_id: str | None = None
    attempts: int = 0
    started_at: datetime | None = None
    duration: timedelta | None = None
    lag: timedelta | None = None
    error: str | None = None
    result_bytes: int = 0


class CronDiff(NamedTuple):
    """What an activation changed: names of crons, each in one of the four."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether it changed anything."""
        return bool(self.added or self.updated or self.deleted)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestInfo:
    """One version of the definitions: `staged` waits to be activated, `active` holds, `retired` has held or waited."""

    version: int
    digest: str
    state: ManifestState
    crons: tuple[str, ...]
    staged_at: datetime
    activated_at: datetime | None


class Staged(NamedTuple):
    """What became of a manifest: its version, whether it holds, and what its activation changed.

    Of one that waits, `diff` is what its activation would have changed at the start that staged it.
    """

    version: int
    active: bool
    diff: CronDiff


class Dispatched(NamedTuple):
    """What an outside clock's call did.

    `accepted`: the tick runs, as `job_id`.  `duplicate`: it was sent before; `job_id` is its run, if it is still kept.
    `skipped`: it does not run, for the `reason`.
    """

    status: Literal["accepted", "duplicate", "skipped"]
    tick: datetime | None
    job_id: str | None = None
    reason: SkipReason | None = None
