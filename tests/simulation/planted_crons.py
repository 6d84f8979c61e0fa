"""Bugs to plant in crons, one at a time, to show that the simulated years can fail.

As in `planted`: a part of the product is replaced for the length of a run.  Each names the complaint, or one of those,
that must be heard.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from unittest import mock

from actor_scheduler.crons import catchup, firing, schedule
from actor_scheduler.crons.catchup import Plan
from actor_scheduler.crons.firing import Account, Next
from actor_scheduler.crons.schedule import EveryTicks
from actor_scheduler.store.sqlite import crons, skips
from actor_scheduler.store.sqlite.crons import CronWriter
from actor_scheduler.store.sqlite.jobs import JobWriter
from actor_scheduler.store.sqlite.manifests import Manifests
from actor_scheduler.store.sqlite.skips import Skips
from tests.simulation.planted import Patch, nothing, reworded


class Bug(NamedTuple):
    """What is replaced, what must be said of it, and a seed that was found to say so."""

    patches: Callable[[], list[Patch]]
    complaints: tuple[str, ...]
    seed: int


BUGS: Final[dict[str, Bug]] = {}


def bug(*complaints: str, seed: int = 1) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
    def add(patches: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        BUGS[patches.__name__] = Bug(patches, complaints, seed)
        return patches

    return add


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a bug for a while."""
    with contextlib.ExitStack() as stack:
        for owner, part, wrong in BUGS[name].patches():
            stack.enter_context(mock.patch.object(owner, part, wrong))
        yield


# ------------------------------------------------------------------ the account


@bug("is accounted for up to")
def watermark_is_now() -> list[Patch]:
    """What was brought to account ends now, not with the newest tick: one whose jitter is not over is lost."""
    settle = firing._settle

    def hasty(spec: Any, ticks: Any, account: Any, newest_us: Any, late_us: int, *args: Any, **options: Any) -> Any:
        made, after = settle(spec, ticks, account, newest_us, late_us, *args, **options)
        moved = newest_us is not None and after != account
        return made, after._replace(watermark_us=newest_us + late_us) if moved else after

    return [Patch(firing, "_settle", hasty)]


@bug("drops", "runs", seed=2)
def upto_is_off_by_one() -> list[Patch]:
    """Dropped ticks are those before the end of their stretch, not up to it."""
    drop_all = catchup.drop_all

    def short(ticks: Any, *, after_us: int, upto_us: int, reason: Any) -> Any:
        return drop_all(ticks, after_us=after_us, upto_us=upto_us - 1, reason=reason)

    return [Patch(catchup, "drop_all", short)]


@bug("drops")
def drop_not_recorded() -> list[Patch]:
    """What does not run leaves no record."""
    return [Patch(Skips, "record", nothing)]


@bug("drops", "a record of dropped ticks was changed", seed=3)
def record_loses_its_count() -> list[Patch]:
    """A stretch that grows counts one tick each time."""
    return [
        reworded(
            skips,
            "_LENGTHEN",
            "ticks + ?",
            "ticks + min(?, 1)",
        )
    ]


@bug("keeps", "is told of", seed=2)
def dropped_ticks_not_told() -> list[Patch]:
    """What one plan leaves untold, the next one does not know."""
    plan = firing.plan

    def forgetful(*args: Any, **options: Any) -> Plan:
        return plan(*args, **{**options, "skipped": 0})

    return [Patch(firing, "plan", forgetful)]


@bug("moves without a reason", "is CronWatch", "is Seen", "drops", seed=2)
def changed_definition_keeps_its_account() -> list[Patch]:
    """Another schedule goes on from the account of the one before."""
    same: Callable[..., bool] = lambda *_: True  # noqa: E731
    return [Patch(crons.CronSpec, "same_ticks", same)]


@bug("drops", "stands", seed=2)
def end_of_a_definition_not_recorded() -> list[Patch]:
    """What was due under a definition that ends is recorded nowhere."""
    return [Patch(CronWriter, "_close", nothing)]


# ------------------------------------------------------------------ catch-up, overlap, pause


@bug("runs")
def catch_up_not_capped() -> list[Patch]:
    """`all` replays whatever was missed within a thousand ticks."""

    def generous(rule: Any, unfinished: int) -> int:
        return 1_000 if rule.missed == "all" else 1

    return [Patch(catchup, "_room", generous)]


@bug("runs", "drops")
def oldest_kept() -> list[Patch]:
    """Under the cap, the oldest ticks are replayed."""

    def oldest_first(ticks: Any, after_us: int, newest_us: int, most: int) -> list[int]:
        kept: list[int] = []
        at_us = ticks.next_us(after_us)
        while at_us is not None and at_us <= newest_us and len(kept) < most:
            kept.insert(0, at_us)
            at_us = ticks.next_us(at_us)
        return kept

    return [Patch(catchup, "_newest_first", oldest_first)]


@bug("runs")
def age_ignored() -> list[Patch]:
    """`all` replays ticks of any age."""
    refused = catchup._refused

    def patient(rule: Any, *args: Any, **options: Any) -> Any:
        return refused(rule._replace(max_age_us=None), *args, **options)

    return [Patch(catchup, "_refused", patient)]


@bug("runs", "while", seed=2)
def overlap_ignores_pending_retries() -> list[Patch]:
    """A run that waits for its next attempt counts as ended."""
    return [reworded(crons, "_UNFINISHED", "IN ('pending', 'in_progress')", "= 'in_progress'")]


@bug("moves without a reason", "drops", "is accounted for")
def resume_forgets_the_policy() -> list[Patch]:
    """What a pause has missed is gone, and the cron goes on from now."""

    def forgetful(self: Any, row: Any) -> None:
        spec, now_us = row.decode(), self._jobs.now_us
        self._raw.execute(crons._PAUSE, (None, "", row.id))
        self._move(row, spec, row.account._replace(watermark_us=now_us))

    return [Patch(CronWriter, "_resume", forgetful)]


@bug("moves without a reason", "is Seen", "waits for", "fires")
def pause_keeps_the_alarm() -> list[Patch]:
    """A paused cron stays in the index, and fires."""
    return [Patch(CronWriter, "_rest", nothing)]


@bug("that does not hold any more wait to run", seed=2)
def old_occurrences_wait() -> list[Patch]:
    """What waits to run stays, though its definition does not hold any more."""
    return [Patch(CronWriter, "_skip_waiting", nothing)]


# ------------------------------------------------------------------ when it fires


@bug("holds", seed=12)
def jitter_not_bounded() -> list[Patch]:
    """Jitter goes past the next tick."""
    jitter_us = firing.jitter_us

    def wild(name: str, tick_us: int, span_us: int, next_us: int | None) -> int:
        del next_us
        return jitter_us(name, tick_us, span_us, None)

    return [Patch(firing, "jitter_us", wild)]


@bug("holds", "is told")
def jitter_moves_the_tick() -> list[Patch]:
    """A run is told when it fires, not its tick."""
    insert_run = JobWriter.insert_run

    def late(self: Any, job: Any, occurrence: Any, **options: Any) -> Any:
        return insert_run(self, job._replace(scheduled_at_us=job.created_at_us), occurrence, **options)

    return [Patch(JobWriter, "insert_run", late)]


@bug("is Seen", seed=6)
def registering_again_resets() -> list[Patch]:
    """The same definition again begins anew."""

    def anew(self: Any, spec: Any, own_seq: Any) -> None:
        row = crons.cron_rows.get(self._raw, spec.name)
        if row is None:
            self.add(spec, "runtime")
        else:
            self.change(row, spec, own_seq, anew=True)

    return [Patch(CronWriter, "_put", anew)]


@bug("is Seen", "waits for")
def boot_anchors_anew() -> list[Patch]:
    """A start counts the intervals that the code defines from now."""
    stage = Manifests._stage

    def again(self: Any, unit: Any) -> Any:
        answer = stage(self, unit)
        for row in crons.cron_rows.of_manifest(self._raw).values():
            spec = row.decode()
            if isinstance(spec.schedule, schedule.Every) and not row.paused:
                now_us = self._jobs.now_us
                self._crons._move(row, spec, Account(now_us, max(now_us, row.watermark_us), row.skipped))
        return answer

    return [Patch(Manifests, "_stage", again)]


@bug("moves without a reason", seed=23)
def clock_set_back_fires_again() -> list[Patch]:
    """A start takes an account that is ahead of the clock back to it."""
    stage = Manifests._stage

    def trusting(self: Any, unit: Any) -> Any:
        answer, now_us = stage(self, unit), self._jobs.now_us
        for row in crons.cron_rows.of_manifest(self._raw).values():
            if row.fire_at_us is not None and row.watermark_us > now_us:
                self._crons._move(row, row.decode(), row.account._replace(watermark_us=now_us))
        return answer

    return [Patch(Manifests, "_stage", trusting)]


@bug("waits for")
def next_tick_is_skipped() -> list[Patch]:
    """An interval waits for the tick after the next one."""
    next_us = EveryTicks.next_us

    def later(self: Any, after_us: int) -> int | None:
        return next_us(self, after_us + 1)

    return [Patch(EveryTicks, "next_us", later)]


@bug("and has not by")
def fires_at_its_tick_without_an_entry() -> list[Patch]:
    """A cron that was changed does not come into the index again."""
    return [Patch(CronWriter, "settle", nothing)]


@bug("holds")
def fires_early() -> list[Patch]:
    """A cron fires a second before its tick."""
    next_fire = firing.next_fire

    def early(spec: Any, account: Any) -> Next | None:
        coming = next_fire(spec, account)
        return None if coming is None else coming._replace(fire_at_us=coming.fire_at_us - 1_000_000)

    return [Patch(crons, "next_fire", early)]


# ------------------------------------------------------------------ manifests, outside clocks


@bug("is gone", seed=6)
def manifest_takes_runtime_crons() -> list[Patch]:
    """A start deletes what was registered at run time."""
    rows = crons.cron_rows
    everything = rows._OF_MANIFEST.replace("INDEXED BY _scheduler_crons_manifest WHERE origin = 'manifest'", "")
    return [Patch(rows, "_OF_MANIFEST", everything)]


@bug("drops", seed=5)
def sent_again_runs_again() -> list[Patch]:
    """A tick that an outside clock sends again moves the account again."""
    dispatch = CronWriter._dispatch

    def eager(self: Any, row: Any, nominal_us: Any) -> Any:
        return dispatch(self, row._replace(watermark_us=row.watermark_us - 1), nominal_us)

    return [Patch(CronWriter, "_dispatch", eager)]


@bug("runs", seed=2)
def overlap_of_one_is_forgotten() -> list[Patch]:
    """A cron fires whatever still runs."""
    free: Callable[..., int] = lambda *_: 0  # noqa: E731
    return [Patch(CronWriter, "_unfinished", free)]
