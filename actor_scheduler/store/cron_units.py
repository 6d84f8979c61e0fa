"""Units of the store's port that are about crons: what a start, a caller or an operator wants of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from actor_scheduler.crons.spec import CronSpec


class StageCrons(NamedTuple):
    """Keep the definitions of this process as a manifest, and let it hold when `activate`. Answer: a Staged.

    The same manifest again changes nothing.  `now_us` is the time to go by where the clock can't be right.
    """

    specs: Sequence[CronSpec]
    activate: bool
    now_us: int | None = None


class ActivateCrons(NamedTuple):
    """Let a manifest hold: sync the crons it defines by name, in one step. Answer: a CronDiff."""

    version: int


class CronTargets(NamedTuple):
    """Say which functions crons run. Answer: their paths, each once."""


class PutCron(NamedTuple):
    """Register a cron at run time, or bring it up to date; an equal one is left alone. Answer: None.

    Refused when the code defines a cron of that name.
    """

    spec: CronSpec


class ChangeCron(NamedTuple):
    """Change a cron that was registered at run time. Answer: None.

    `anew`: its ticks are computed from now, even when the schedule is the same.
    """

    name: str
    change: Callable[[CronSpec], CronSpec]
    anew: bool = False


class DeleteCron(NamedTuple):
    """Forget a cron that was registered at run time. Answer: whether there was one.

    Its occurrences that have not started are skipped; what runs goes on, and what has run stays in the history.
    """

    name: str


class PauseCron(NamedTuple):
    """Let no tick of a cron run until it is resumed. Answer: None."""

    name: str
    note: str


class ResumeCron(NamedTuple):
    """Let a cron go on; what it missed meanwhile is treated by its own policy. Answer: None."""

    name: str


class RunCron(NamedTuple):
    """Run a cron's target now, by hand: its schedule does not move. Answer: the job's id."""

    name: str
    scheduled_at_us: int | None


class DispatchCron(NamedTuple):
    """Hear of a tick from an outside clock. Answer: a Dispatched."""

    name: str
    nominal_us: int | None


CronUnit: TypeAlias = PutCron | ChangeCron | DeleteCron | PauseCron | ResumeCron | RunCron | DispatchCron
