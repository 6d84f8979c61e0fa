"""Bugs to plant in a child, one at a time, to show that the crash test can fail.

Each is a mistake that a scheduler like this one could make.  Only a child that was told to be wrong imports this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from actor_scheduler import retry
from actor_scheduler.crashpoints import reach
from actor_scheduler.index import JobIndex
from actor_scheduler.model import Entry
from actor_scheduler.queues import PARKED
from actor_scheduler.store.base import Done, InsertJobs
from actor_scheduler.store.sqlite import cron_rows, crons, mutations, outcomes, recovery, store, turn
from actor_scheduler.store.sqlite.crons import CronWriter
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.jobs import JobWriter
from actor_scheduler.store.sqlite.lanes import Lanes
from actor_scheduler.store.sqlite.mutations import MutationRunner
from actor_scheduler.store.sqlite.skips import Skips
from actor_scheduler.store.sqlite.steering import Steering
from runtime import engine

_TurnRunner: Final = turn.TurnRunner
_EARLY_US: Final = 10_000_000
_PARKED: Final = ours(
    "SELECT seq, queue, fire_at_us FROM main._scheduler_jobs WHERE lane = ? AND queue >= '~' AND state = 'pending'"
)
_UNPARK: Final = ours("UPDATE main._scheduler_jobs SET queue = ? WHERE seq = ?")


def _put(owner: Any, name: str, wrong: Any) -> None:
    assert hasattr(owner, name), f"{owner} has no {name} any more: the bug must be planted elsewhere"
    setattr(owner, name, wrong)


def _second_transaction() -> None:
    """A mutation's effects commit first, its completion in a transaction of its own."""
    drive = MutationRunner._drive

    def two_steps(self: Any, body: Any, job: Any, limit_us: Any, context: Any, finish: Any, at: int) -> Any:
        if job is None:
            return drive(self, body, job, limit_us, context, finish, at)
        value = drive(self, body, job, limit_us, context, lambda _: None, at)
        self._raw.execute(ours("COMMIT"))
        self._raw.execute(ours("BEGIN IMMEDIATE"))
        finish(value)
        return value

    _put(MutationRunner, "_drive", two_steps)


def _reply_before_commit() -> None:
    """The commit is put off to the beginning of the next turn; the callers are answered now."""
    attempt = _TurnRunner._attempt

    def commit_before(self: Any, batch: Any, began_us: int) -> Any:
        if self._raw.in_transaction:
            reach("turn.before_begin")  # everything of the turn before is answered, nothing of it is durable
            self._raw.execute(ours("COMMIT"))
        return attempt(self, batch, began_us)

    def commit_later(self: Any) -> None:
        del self
        reach("turn.before_commit")
        reach("turn.committed")

    _put(_TurnRunner, "_attempt", commit_before)
    _put(_TurnRunner, "_commit", commit_later)


def _actions_run_again() -> None:
    """A boot makes the actions pending again that another boot left in progress, retries or not."""

    def run_again(raw: Any, left: Any, boot: int, now_us: int, host: Any) -> Any:
        raw.execute(
            ours(
                "UPDATE main._scheduler_jobs SET state = 'pending', started_at_us = NULL, boot = NULL"
                " WHERE seq = ? AND state = 'in_progress' AND boot <> ?"
            ),
            (left.job.seq, boot),
        )
        return left.job, recovery.INTERRUPTED

    _put(recovery, "_judge_left", run_again)


def _actions_forgotten() -> None:
    """A boot leaves the actions of other boots in progress for ever."""
    _put(recovery, "_judge_left", lambda raw, left, boot, now_us, host: (left.job, recovery.INTERRUPTED))


def _numbers_reused() -> None:
    """A boot gives out the sequence numbers again of jobs that were rolled back."""
    _put(recovery, "_RESERVED", ours("SELECT 0 * length(value) FROM main._scheduler_meta WHERE name = 'seq_reserved'"))


def _half_rollback() -> None:
    """A mutation that failed is not rolled back, only recorded as failed."""
    _put(mutations, "_BACK", ours("SELECT 1"))


def _cancel_in_memory() -> None:
    """A cancellation takes the job out of the index, not out of the file."""

    def forget(self: Any, seq: int, path: str, queue: str, fire_at_us: int, now_us: int) -> None:
        self._changes.leaves(queue, Entry(fire_at_us, seq))

    _put(Steering, "cancel_pending", forget)


def _resends_forgotten() -> None:
    """An idempotency key is not looked up, and not kept."""
    insert_one = JobWriter.insert_one

    def plain(self: Any, job: Any) -> str:
        return insert_one(self, job._replace(idempotency_key=None))

    _put(JobWriter, "insert_one", plain)


def _clock_ahead() -> None:
    """Jobs are taken before they are due."""
    take_due, earliest_us = JobIndex.take_due, JobIndex.earliest_us

    def early(self: Any, now_us: int, count_max: int, room: Any) -> Any:
        return take_due(self, now_us + _EARLY_US, count_max, room)

    def sooner(self: Any, now_us: int, gates: Any) -> int | None:
        when_us = earliest_us(self, now_us, gates)
        return None if when_us is None else when_us - _EARLY_US

    _put(JobIndex, "take_due", early)
    _put(JobIndex, "earliest_us", sooner)


def _batch_in_pieces() -> None:
    """A batch is committed one job at a time."""
    run = _TurnRunner.run

    def in_pieces(self: Any, units: Any, refills: Any) -> Any:
        pieces = [
            piece
            for unit in units
            for piece in ([InsertJobs((job,)) for job in unit.jobs] if isinstance(unit, InsertJobs) else [unit])
        ]
        if len(pieces) == len(units):
            return run(self, units, refills)
        results = [run(self, [piece], refills if at == 0 else ()) for at, piece in enumerate(pieces)]
        replies = iter([reply for result in results for reply in result.replies])
        result = results[0]
        for later in results[1:]:
            result.effects.pending.extend(later.effects.pending)
            result.effects.gone.extend(later.effects.gone)
            result.effects.ended.extend(later.effects.ended)
        result.replies = [
            _joined([next(replies) for _ in unit.jobs]) if isinstance(unit, InsertJobs) else next(replies)
            for unit in units
        ]
        return result

    _put(_TurnRunner, "run", in_pieces)


def _joined(replies: list[Any]) -> Any:
    for reply in replies:
        if not isinstance(reply, Done):
            return reply
    return Done([job_id for reply in replies for job_id in reply.value])


def _lanes_at_once() -> None:
    """Every job of a lane goes into its queue, not only the head."""
    settle = Lanes.settle

    def settle_for_all(self: Any, changes: Any) -> None:
        settle(self, changes)
        for lane in changes.lanes:
            for seq, queue, fire_at_us in self._raw.execute(_PARKED, (lane,)).fetchall():
                self._raw.execute(_UNPARK, (queue.removeprefix(PARKED), seq))
                changes.waits(queue.removeprefix(PARKED), Entry(fire_at_us, seq))

    _put(Lanes, "settle", settle_for_all)


def _attempts_not_counted() -> None:
    """An action that is to be tried again gives its attempt's number back."""
    again: str = outcomes._AGAIN_ACTION
    _put(outcomes, "_AGAIN_ACTION", again.replace("state = 'pending',", "state = 'pending', attempt = attempt - 1,", 1))


def _no_pause() -> None:
    """What failed is tried again at once."""
    next_attempt_us = retry.next_attempt_us

    def at_once(*given: Any) -> int | None:
        return None if next_attempt_us(*given) is None else 0

    _put(engine, "next_attempt_us", at_once)


def _setting_in_memory() -> None:
    """A setting holds for this process only."""
    _put(Steering, "set", lambda self, name, value: None)


def _watermark_in_second_transaction() -> None:
    """The runs of a cron's ticks commit first, how far it is accounted for in a transaction of its own."""
    fire, move = CronWriter.fire, CronWriter._move

    def committed_before(self: Any, *given: Any, **more: Any) -> None:
        if self.__dict__.pop("fires", False):
            reach("turn.before_commit")
            self._raw.execute(ours("COMMIT"))
            reach("turn.committed")
            self._raw.execute(ours("BEGIN IMMEDIATE"))
        move(self, *given, **more)

    def fires(self: Any, entry: Any, row: Any) -> Any:
        self.fires = True
        return fire(self, entry, row)

    _put(CronWriter, "fire", fires)
    _put(CronWriter, "_move", committed_before)


def _runs_in_second_transaction() -> None:
    """How far a cron is accounted for commits first, the runs of its ticks in a transaction of its own."""
    insert_runs = CronWriter._insert_runs

    def put_off(self: Any, *given: Any, **more: Any) -> list[str]:
        self.put_off = (given, more)
        return []

    def insert(self: Any, row: Any, spec: Any, account: Any, **rests: Any) -> None:
        move(self, row, spec, account, **rests)
        if "put_off" in self.__dict__:
            given, more = self.__dict__.pop("put_off")
            reach("turn.before_commit")
            self._raw.execute(ours("COMMIT"))
            reach("turn.committed")
            self._raw.execute(ours("BEGIN IMMEDIATE"))
            insert_runs(self, *given, **more)

    move = CronWriter._move
    _put(CronWriter, "_insert_runs", put_off)
    _put(CronWriter, "_move", insert)


def _ticks_not_unique() -> None:
    """A tick may have any number of runs, and nothing says up to where a cron is accounted for."""
    migrate = store.migrate

    def without_index(raw: Any, now_us: int) -> None:
        migrate(raw, now_us)
        raw.execute("DROP INDEX IF EXISTS main._scheduler_jobs_tick")

    _put(store, "migrate", without_index)
    _put(crons, "_MOVE", crons._MOVE.replace("watermark_us = ?", "watermark_us = coalesce(watermark_us, ?)"))


def _skips_forgotten() -> None:
    """What does not run leaves no record."""
    _put(Skips, "record", lambda self, row, drops, now_us: None)


def _crons_in_memory() -> None:
    """A start does not look for crons that wait for their ticks."""
    _put(cron_rows, "window", lambda raw, after, limit: [])


def _old_definitions_stay() -> None:
    """A manifest that holds does not take away the crons of the one before."""
    _put(CronWriter, "remove", lambda self, row, own_seq=None: None)


PLANTS: Final[dict[str, Callable[[], None]]] = {
    "second_transaction": _second_transaction,
    "reply_before_commit": _reply_before_commit,
    "actions_run_again": _actions_run_again,
    "actions_forgotten": _actions_forgotten,
    "numbers_reused": _numbers_reused,
    "half_rollback": _half_rollback,
    "cancel_in_memory": _cancel_in_memory,
    "resends_forgotten": _resends_forgotten,
    "clock_ahead": _clock_ahead,
    "batch_in_pieces": _batch_in_pieces,
    "lanes_at_once": _lanes_at_once,
    "attempts_not_counted": _attempts_not_counted,
    "no_pause": _no_pause,
    "setting_in_memory": _setting_in_memory,
    "watermark_in_second_transaction": _watermark_in_second_transaction,
    "runs_in_second_transaction": _runs_in_second_transaction,
    "ticks_not_unique": _ticks_not_unique,
    "skips_forgotten": _skips_forgotten,
    "crons_in_memory": _crons_in_memory,
    "old_definitions_stay": _old_definitions_stay,
}


def plant(name: str) -> None:
    """Plant one bug in this process."""
    PLANTS[name]()
