"""What the store tells of crons: how they stand, what became of their ticks, and which manifest holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from actor_scheduler.crons.catchup import SkipReason
    from actor_scheduler.crons.schedule import Schedule
    from actor_scheduler.crons.spec import CronSpec, Origin
    from actor_scheduler.model import State

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CronRun:
    """What became of a tick, or of a stretch of ticks that did not run.

    A run is a job: its state, its attempts, and what they gave.  A skip has the state `skipped`, a `reason`, and
    `skipped` ticks, from `first_tick` to `tick`.  Of a run, `skipped` is how many ticks were dropped since the run
    before.  `lag` is how long after its tick the last attempt started, jitter included.  `manual` marks a run that was
    asked for by hand; its `tick` is what it was told.
    """

    cron: str
    tick: datetime
    first_tick: datetime
    state: State | Literal["skipped"]
    reason: SkipReason | None = None
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
    """What became of a manifest at a start: its version, whether it holds, and what its activation changed."""

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
