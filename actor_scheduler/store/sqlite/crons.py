"""Crons in the file: firing them, and what callers and operators want of them. Runs inside the turn's transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.crashpoints import reach
from actor_scheduler.crons.catchup import Plan, Run, SkipReason, drop_all
from actor_scheduler.crons.firing import Account, fall_due, fall_due_outside, next_fire
from actor_scheduler.crons.records import Dispatched
from actor_scheduler.crons.schedule import Every
from actor_scheduler.crons.spec import CronSpec, Origin, RunNote
from actor_scheduler.errors import InvalidCron, InvalidTime, UnknownCron, UnknownZone
from actor_scheduler.ids import format_id
from actor_scheduler.limits import MISSED_AFTER_US
from actor_scheduler.model import CRONS, Entry, NewJob
from actor_scheduler.store.base import Fired
from actor_scheduler.store.cron_units import (
    ChangeCron,
    CronUnit,
    DeleteCron,
    DispatchCron,
    PauseCron,
    PutCron,
    ResumeCron,
    RunCron,
)
from actor_scheduler.store.sqlite import cron_rows, zones
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.job_rows import moment
from actor_scheduler.store.sqlite.skips import Skips
from actor_scheduler.times import to_datetime, to_iso

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from actor_scheduler.store.base import Host
    from actor_scheduler.store.sqlite.cron_rows import CronRow
    from actor_scheduler.store.sqlite.jobs import JobWriter

log = logging.getLogger("actor_scheduler")

LANE: Final = "@cron/"  # before a cron's name: the lane in which its runs take turns

_INSERT: Final = ours(
    "INSERT INTO main._scheduler_crons (id, name, origin, spec, path, zone, anchor_us, watermark_us, tick_us,"
    " fire_at_us, created_at_us, changed_at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MOVE: Final = ours(
    "UPDATE main._scheduler_crons SET anchor_us = ?, watermark_us = ?, skipped = ?, tick_us = ?, fire_at_us = ?"
    " WHERE id = ?"
)
_CHANGE: Final = ours(
    "UPDATE main._scheduler_crons SET spec = ?, path = ?, zone = ?, trouble = NULL, changed_at_us = ? WHERE id = ?"
)
_PAUSE: Final = ours("UPDATE main._scheduler_crons SET paused_at_us = ?, note = ? WHERE id = ?")
_RESUME: Final = ours("UPDATE main._scheduler_crons SET paused_at_us = NULL, note = '', trouble = NULL WHERE id = ?")
_TROUBLE: Final = ours("UPDATE main._scheduler_crons SET trouble = ?, tick_us = NULL, fire_at_us = NULL WHERE id = ?")
_DELETE: Final = ours("DELETE FROM main._scheduler_crons WHERE id = ?")
_ENTRIES: Final = ours(
    "SELECT fire_at_us, id FROM main._scheduler_crons WHERE id IN (SELECT value FROM json_each(?))"
    " AND fire_at_us IS NOT NULL"
)
_UNFINISHED: Final = ours(
    "SELECT count(*) FROM (SELECT 1 FROM main._scheduler_jobs WHERE lane = ? AND lane IS NOT NULL"
    " AND state IN ('pending', 'in_progress') LIMIT ?)"
)
_WAITING: Final = ours(
    "SELECT seq, path, queue, fire_at_us FROM main._scheduler_jobs INDEXED BY _scheduler_jobs_cron_waiting"
    " WHERE cron = ? AND cron IS NOT NULL AND state = 'pending' AND attempt = 0 AND tick_us IS NOT NULL"
)
_SKIP: Final = ours("UPDATE main._scheduler_jobs SET cause = ? WHERE seq = ?")
_BY_TICK: Final = ours(
    "SELECT seq, nonce FROM main._scheduler_jobs WHERE cron = ? AND cron IS NOT NULL AND tick_us = ?"
)


class CronWriter:
    """Writes crons inside a turn: their rows, the jobs of their ticks, and the record of those that did not run."""

    def __init__(self, raw: sqlite3.Connection, jobs: JobWriter, host: Host) -> None:
        self._raw = raw
        self._jobs = jobs
        self._host = host
        self._skips = Skips(raw)

    # ------------------------------------------------------------ firing

    def fire(self, entry: Entry, row: CronRow | None) -> Fired | None:
        """Insert the jobs of the ticks that are due, record those that do not run, and move the watermark.

        A row that is not due any more is left alone.  One that can't be read is taken out of the index, with its
        trouble: it must not be in the way of others.
        """
        reach("cron.before")
        now_us = self._jobs.now_us
        if row is None or row.fire_at_us != entry.fire_at_us:
            return None
        try:
            spec = row.decode()
        except InvalidCron as error:
            self.trouble(row, str(error))
            if isinstance(error, UnknownZone):
                zones.forget_of(self._raw, row.id)
            return None
        self._jobs.changes.crons[row.id] = None  # the index has given its entry away
        return self._settle_due(row, spec, now_us)

    def trouble(self, row: CronRow, why: str) -> None:
        """Take a cron out of the index that can't go on."""
        log.error("cron %r does not fire any more: %s", row.name, why)
        self._raw.execute(_TROUBLE, (why, row.id))
        self._touch(row)

    def _settle_due(self, row: CronRow, spec: CronSpec, now_us: int, *, paused: bool = False) -> Fired:
        """Bring what is due now to account, and set the next fire time."""
        unfinished = self._unfinished(spec)
        plan, account = fall_due(spec, row.account, now_us, unfinished, paused=paused)
        self._skips.record(row, plan.drops, now_us)
        ids = self._insert_runs(spec, plan.runs, now_us, free=unfinished == 0)
        self._move(row, spec, account)
        reach("cron.moved")
        return Fired(row.name, sum(job_id is not None for job_id in ids), plan.drops)

    def _unfinished(self, spec: CronSpec) -> int:
        """Return how many runs have not ended; as many as the rule needs to know."""
        if spec.rule.overlap == "allow":
            return 0
        most = 1 if spec.rule.overlap == "skip" else spec.rule.max_ticks
        count: int = self._raw.execute(_UNFINISHED, (LANE + spec.name, most)).fetchone()[0]
        return count

    def _insert_runs(self, spec: CronSpec, runs: Iterable[Run], now_us: int, *, free: bool) -> list[str | None]:
        """Store a job for each run and return their ids; None for a tick that has its job already."""
        ids: list[str | None] = []
        for run in runs:
            note = RunNote(run.skipped, run.window).encode()
            job = self._job(spec, run.tick_us, now_us)._replace(tick_us=run.tick_us, cron_run=note)
            occurrence = f"{spec.name}@{to_iso(run.tick_us)}"
            ids.append(self._jobs.insert_run(job, occurrence, at_once=free and not any(ids)))
        reach("cron.runs_written")
        return ids

    def _job(self, spec: CronSpec, scheduled_at_us: int, now_us: int) -> NewJob:
        queue = self._host.routing.queue(spec.path, spec.kind)
        lane = None if spec.rule.overlap == "allow" else LANE + spec.name
        return NewJob(
            spec.path, spec.kind, queue, spec.args, scheduled_at_us, now_us, now_us, lane=lane, cron=spec.name
        )

    def _move(self, row: CronRow, spec: CronSpec, account: Account, *, rests: bool = False) -> None:
        """Write how far a cron is accounted for, and when it fires next; `rests`: not at all."""
        coming = None if rests else next_fire(spec, account)
        tick_us, fire_at_us = coming if coming is not None else (None, None)
        values = (account.anchor_us, account.watermark_us, account.skipped, tick_us, fire_at_us, row.id)
        self._raw.execute(_MOVE, values)
        self._touch(row)

    def _touch(self, row: CronRow) -> None:
        """Note, before a cron's fire time changes, where it stood in the index when the transaction began."""
        entry = Entry(row.fire_at_us, row.id) if row.fire_at_us is not None else None
        self._jobs.changes.crons.setdefault(row.id, entry)

    def settle(self) -> None:
        """Tell the index where the crons that were touched stand now; before the commit.

        Not while they are written: one that is paused and resumed in one transaction has left and come back, and who
        reads what left and what came can't tell in which order.
        """
        touched = self._jobs.changes.crons
        if not touched:
            return
        stands = {entry[1]: Entry(*entry) for entry in self._raw.execute(_ENTRIES, (str(list(touched)),))}
        for number, before in touched.items():
            after = stands.get(number)
            if before != after:
                if before is not None:
                    self._jobs.changes.leaves(CRONS, before)
                if after is not None:
                    self._jobs.changes.waits(CRONS, after)

    # ------------------------------------------------------------ at run time

    def apply(self, unit: CronUnit, own_seq: int | None = None) -> object:
        """Do what a caller or an operator wants of a cron, and return the answer.

        `own_seq` is the job that asks: it may delete the cron whose run it is.  Raises UnknownCron, InvalidCron,
        InvalidTime.
        """
        match unit:
            case PutCron(spec):
                self._put(spec, own_seq)
            case ChangeCron(name, change, anew):
                row = self._own(name)
                self.change(row, change(row.decode()), own_seq, anew=anew)
            case DeleteCron(name):
                return self._delete(name, own_seq)
            case PauseCron(name, note):
                self._pause(self._known(name), note, own_seq)
            case ResumeCron(name):
                self._resume(self._known(name))
            case RunCron(name, scheduled_at_us):
                return self._run_by_hand(self._known(name).decode(), scheduled_at_us)
            case DispatchCron(name, nominal_us):
                return self._dispatch(self._known(name), nominal_us)
        return None

    def _known(self, name: str) -> CronRow:
        row = cron_rows.get(self._raw, name)
        if row is None:
            msg = f"there is no cron called {name!r}"
            raise UnknownCron(msg)
        return row

    def _own(self, name: str) -> CronRow:
        """Return a cron that may be changed at run time."""
        row = self._known(name)
        if row.origin == "manifest":
            msg = f"cron {name!r} is defined in the code: change it there (pause and resume work at run time)"
            raise InvalidCron(msg)
        return row

    def _put(self, spec: CronSpec, own_seq: int | None) -> None:
        row = cron_rows.get(self._raw, spec.name)
        if row is None:
            self.add(spec, "runtime")
        elif self._own(spec.name).spec != spec.encode() or row.trouble is not None:
            self.change(row, spec, own_seq)

    def add(self, spec: CronSpec, origin: Origin) -> None:
        """Store a new cron. An interval runs at once, and counts from now; anything else at its next tick."""
        now_us = self._jobs.now_us
        account = Account(now_us, now_us - 1 if isinstance(spec.schedule, Every) else now_us)
        coming = next_fire(spec, account)
        tick_us, fire_at_us = coming if coming is not None else (None, None)
        number, zone = self._jobs.take_seqs(1), _zone(spec)
        zones.remember(self._raw, zone)
        self._raw.execute(
            _INSERT,
            (number, spec.name, origin, spec.encode(), spec.path, zone, account.anchor_us,
             account.watermark_us, tick_us, fire_at_us, now_us, now_us),
        )  # fmt: skip
        self._jobs.changes.crons.setdefault(number, None)
        reach("cron.stored")

    def change(self, row: CronRow, spec: CronSpec, own_seq: int | None = None, *, anew: bool = False) -> None:
        """Let a cron be another one from now on.

        With the same ticks it keeps its account; else, or `anew`, its ticks are computed from now, and those that were
        due under the old definition are recorded.  Occurrences that have not started are skipped unless the new
        definition would run the same.
        """
        now_us, data, zone = self._jobs.now_us, spec.encode(), _zone(spec)  # refused before anything is written
        try:
            old = row.decode()
        except InvalidCron:  # what can't be read has no ticks to account for
            old = None
        account = row.account
        if old is None or anew or not old.same_ticks(spec):
            if old is not None:
                self._close(row, old, now_us)
            anchor_us = row.anchor_us if old is not None and old.same_schedule(spec) and not anew else now_us
            account = Account(anchor_us, now_us, row.skipped)
        if old is None or not old.same_runs(spec):
            self._skip_waiting(row, "stale_manifest" if spec.enabled else "disabled", own_seq)
        zones.remember(self._raw, zone)
        self._raw.execute(_CHANGE, (data, spec.path, zone, now_us, row.id))
        self._move(row, spec, account, rests=row.paused)
        reach("cron.stored")

    def _close(self, row: CronRow, spec: CronSpec, now_us: int) -> None:
        """Record the ticks of a definition that were due and can't run any more."""
        if spec.clock == "internal":  # what an outside clock has not sent is not ours to count
            reason: SkipReason = "disabled" if not spec.enabled else "paused" if row.paused else "stale_manifest"
            ticks = spec.schedule.ticks(row.anchor_us)
            drops = drop_all(ticks, after_us=row.watermark_us, upto_us=now_us, reason=reason)
            self._skips.record(row, drops, now_us)

    def _skip_waiting(self, row: CronRow, reason: SkipReason, own_seq: int | None) -> None:
        """Skip the occurrences that have not started; the one that asks has."""
        jobs, now_us = self._jobs, self._jobs.now_us
        for seq, path, queue, fire_at_us in self._raw.execute(_WAITING, (row.name,)).fetchall():
            if seq != own_seq:
                jobs.steering.cancel_pending(seq, path, queue, fire_at_us, now_us)
                self._raw.execute(_SKIP, (reason, seq))

    def _delete(self, name: str, own_seq: int | None) -> bool:
        row = cron_rows.get(self._raw, name)
        if row is None:
            return False
        if row.origin == "manifest":
            msg = f"cron {name!r} is defined in the code: take it out there (a pause works at run time)"
            raise InvalidCron(msg)
        self.remove(row, own_seq)
        return True

    def remove(self, row: CronRow, own_seq: int | None = None) -> None:
        """Forget a cron; its due ticks and its occurrences that have not started are recorded as skipped."""
        try:
            self._close(row, row.decode(), self._jobs.now_us)
        except InvalidCron:
            log.warning("cron %r could not be read when it was removed: %s", row.name, row.trouble)
        self._skip_waiting(row, "stale_manifest", own_seq)
        self._raw.execute(_DELETE, (row.id,))
        self._touch(row)
        reach("cron.deleted")

    def _pause(self, row: CronRow, note: str, own_seq: int | None) -> None:
        """Let no tick start any more, not even one that waits already."""
        now_us = self._jobs.now_us
        if row.paused:
            self._raw.execute(_PAUSE, (row.paused_at_us, note, row.id))
            return
        self._raw.execute(_PAUSE, (now_us, note, row.id))
        self._skip_waiting(row, "paused", own_seq)
        self._rest(row)

    def _rest(self, row: CronRow) -> None:
        values = (row.anchor_us, row.watermark_us, row.skipped, None, None, row.id)
        self._raw.execute(_MOVE, values)
        self._touch(row)
        reach("cron.stored")

    def _resume(self, row: CronRow) -> None:
        """Let a cron go on: what it missed is settled at once, by its own policy.

        One that is accounted for beyond now, as the clock was set back, counts from now.
        """
        now_us = self._jobs.now_us
        if not row.paused and row.watermark_us <= now_us:
            return
        spec = row.decode()
        if row.watermark_us > now_us:
            row = row._replace(anchor_us=min(row.anchor_us, now_us), watermark_us=now_us)
        self._raw.execute(_RESUME, (row.id,))
        if spec.enabled and spec.clock == "internal":
            self._settle_due(row, spec, self._jobs.now_us, paused=True)
        else:
            self._move(row, spec, row.account)

    def _run_by_hand(self, spec: CronSpec, scheduled_at_us: int | None) -> str:
        now_us = self._jobs.now_us
        job = self._job(spec, scheduled_at_us if scheduled_at_us is not None else now_us, now_us)
        job_id = self._jobs.insert_run(job, None, at_once=False)
        assert job_id is not None, "a run by hand has no tick that could be taken"
        return job_id

    # ------------------------------------------------------------ an outside clock

    def _dispatch(self, row: CronRow, nominal_us: int | None) -> Dispatched:
        """Hear of a tick: the nominal time is snapped to the latest tick at or before it."""
        spec, now_us = row.decode(), self._jobs.now_us
        if spec.clock != "external":
            msg = f"cron {row.name!r} fires by itself; clock='external' is for those that an outside clock dispatches"
            raise InvalidCron(msg)
        if nominal_us is not None and nominal_us > now_us + MISSED_AFTER_US:
            msg = f"the nominal time {moment(nominal_us)} of cron {row.name!r} is yet to come"
            raise InvalidTime(msg)
        tick_us = spec.schedule.ticks(row.anchor_us).latest_us(now_us if nominal_us is None else nominal_us)
        if tick_us is None or tick_us <= row.watermark_us:
            return self._sent_before(row, tick_us)
        stopped: SkipReason | None = "paused" if row.paused else None if spec.enabled else "disabled"
        unfinished = self._unfinished(spec)
        if stopped is not None:
            ticks = spec.schedule.ticks(row.anchor_us)
            drops = drop_all(ticks, after_us=row.watermark_us, upto_us=tick_us, reason=stopped)
            plan = Plan((), drops, row.skipped + sum(drop.count for drop in drops))
            account = Account(row.anchor_us, tick_us, plan.skipped)
        else:
            plan, account = fall_due_outside(spec, row.account, tick_us, now_us, unfinished)
        self._skips.record(row, plan.drops, now_us)
        ids = self._insert_runs(spec, plan.runs, now_us, free=unfinished == 0)
        self._move(row, spec, account, rests=True)
        tick = to_datetime(tick_us)
        if not plan.runs:
            return Dispatched("skipped", tick, None, plan.drops[-1].reason)
        if ids[-1] is None:  # the watermark was lost, but not the run
            return self._sent_before(row, tick_us)
        return Dispatched("accepted", tick, ids[-1])

    def _sent_before(self, row: CronRow, tick_us: int | None) -> Dispatched:
        if tick_us is None:
            return Dispatched("skipped", None, None, "before_definition")
        tick = to_datetime(tick_us)
        found: Any = self._raw.execute(_BY_TICK, (row.name, tick_us)).fetchone()
        if found is not None:
            return Dispatched("duplicate", tick, format_id(*found))
        reason = self._skips.reason(row.name, tick_us)
        if reason is None and tick_us <= row.changed_at_us:
            reason = "before_definition"
        return Dispatched("skipped", tick, None, reason) if reason is not None else Dispatched("duplicate", tick)


def _zone(spec: CronSpec) -> str | None:
    zone = None if isinstance(spec.schedule, Every) else spec.schedule.tz
    return None if zone == "UTC" else zone
