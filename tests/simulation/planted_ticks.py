"""Bugs to plant in crons while the store fails: what the simulation of faults must see of them, at a file's end."""

from __future__ import annotations

from typing import Any

from actor_scheduler.crons import firing
from actor_scheduler.store.sqlite import crons, jobs, skips
from actor_scheduler.store.sqlite.crons import CronWriter
from actor_scheduler.store.sqlite.fence import ours
from tests.proof.checker import Rule
from tests.simulation.planted import Patch, bug, nothing

_EARLY_US = 30_000_000


@bug(Rule.TICKS)
def dropped_ticks_forgotten() -> list[Patch]:
    """What does not run leaves no record."""
    return [Patch(skips.Skips, "record", nothing)]


@bug(Rule.TICKS)
def account_in_two_transactions() -> list[Patch]:
    """Runs and records commit first, the account they belong to in a transaction of its own."""
    move = CronWriter._move

    def later(self: Any, *args: Any, **options: Any) -> None:
        self._raw.execute(ours("COMMIT"))
        self._raw.execute(ours("BEGIN IMMEDIATE"))
        move(self, *args, **options)

    settle = CronWriter._settle_due

    def two_steps(self: Any, *args: Any, **options: Any) -> Any:
        self._move = later.__get__(self)
        try:
            return settle(self, *args, **options)
        finally:
            del self._move

    return [Patch(CronWriter, "_settle_due", two_steps)]


@bug(Rule.TICK_UNTOLD)
def dropped_ticks_untold() -> list[Patch]:
    """What one plan leaves untold, the next one does not know."""
    plan = firing.plan

    def forgetful(*args: Any, **options: Any) -> Any:
        return plan(*args, **{**options, "skipped": 0})

    return [Patch(firing, "plan", forgetful)]


@bug(Rule.TICK_EARLY)
def ticks_early() -> list[Patch]:
    """A cron that fires takes the ticks of the next half minute along."""
    fall_due = crons.fall_due

    def eager(spec: Any, account: Any, now_us: int, *args: Any, **options: Any) -> Any:
        return fall_due(spec, account, now_us + _EARLY_US, *args, **options)

    return [Patch(crons, "fall_due", eager)]


@bug(Rule.TICK_RUN)
def runs_told_another_time() -> list[Patch]:
    """A run is told when it fired, not its tick."""
    insert_run = jobs.JobWriter.insert_run

    def late(self: Any, job: Any, occurrence: Any, **options: Any) -> Any:
        return insert_run(self, job._replace(scheduled_at_us=job.created_at_us), occurrence, **options)

    return [Patch(jobs.JobWriter, "insert_run", late)]


@bug(Rule.INDEX, Rule.CRON_STANDS)
def crons_leave_the_index() -> list[Patch]:
    """A cron that has fired does not come into the index again."""
    return [Patch(CronWriter, "settle", nothing)]


@bug(Rule.CRON_STANDS)
def crons_give_up() -> list[Patch]:
    """A cron that has dropped a tick does not fire any more."""
    fire = CronWriter.fire

    def fragile(self: Any, entry: Any, row: Any) -> Any:
        fired = fire(self, entry, row)
        if fired is not None and fired.drops:
            self.trouble(row, "it missed some")
        return fired

    return [Patch(CronWriter, "fire", fragile)]
