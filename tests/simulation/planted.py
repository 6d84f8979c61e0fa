"""Bugs to plant, one at a time, to show that the simulation can fail.

Each is a mistake that a scheduler like this one could make, and names the rules of which at least one must say so.  The
product has no switch for them: a part of it is replaced for the length of a run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from unittest import mock

from actor_scheduler import mailbox, retry
from actor_scheduler.actor import Actor
from actor_scheduler.attempts import Attempts
from actor_scheduler.crashpoints import reach
from actor_scheduler.dispatch import Dispatch
from actor_scheduler.gates import RateGate, Slots
from actor_scheduler.index import JobIndex, Window
from actor_scheduler.model import Again, Entry
from actor_scheduler.settings import PAUSED, Settings
from actor_scheduler.store.base import Done, InsertJobs
from actor_scheduler.store.sqlite import SqliteStore, body, job_rows, lanes, outcomes, recovery, steering, turn
from actor_scheduler.store.sqlite.changes import Changes
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.jobs import JobWriter
from actor_scheduler.store.sqlite.steering import Steering
from tests.proof.checker import Rule

_Runner: Final = turn.TurnRunner
_EARLY_US: Final = 10_000_000
_NOTHING: Final = ours("SELECT 1")


class Patch(NamedTuple):
    """One part of the product, and what stands in its place."""

    owner: Any
    name: str
    wrong: Any


class Bug(NamedTuple):
    """What is replaced, and the rules that see it."""

    patches: Callable[[], list[Patch]]
    rules: frozenset[Rule]


BUGS: Final[dict[str, Bug]] = {}


def _bug(*rules: Rule) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
    def add(patches: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        BUGS[patches.__name__] = Bug(patches, frozenset(rules))
        return patches

    return add


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a bug for a while."""
    with contextlib.ExitStack() as stack:
        for owner, part, wrong in BUGS[name].patches():
            stack.enter_context(mock.patch.object(owner, part, wrong))
        yield


def _reworded(owner: Any, name: str, before: str, after: str) -> Patch:
    """Return a statement with a part of it changed."""
    text = getattr(owner, name)
    assert before in text, f"{name} reads otherwise by now: plant the bug elsewhere"
    return Patch(owner, name, text.replace(before, after))


def _nothing(*_args: Any, **_options: Any) -> None:
    return None


# ------------------------------------------------------------------ durability


@_bug(Rule.LOST, Rule.GHOST, Rule.CHILD_MISSING)
def reply_before_commit() -> list[Patch]:
    """The commit is put off to the beginning of the next turn; the callers are answered now."""
    attempt = _Runner._attempt

    def commit_before(self: Any, batch: Any, began_us: int) -> Any:
        if self._raw.in_transaction:
            self._raw.execute(ours("COMMIT"))
        return attempt(self, batch, began_us)

    return [Patch(_Runner, "_attempt", commit_before), Patch(_Runner, "_commit", _nothing)]


@_bug(Rule.DOUBLED, Rule.SPLIT)
def second_transaction() -> list[Patch]:
    """A mutation's effects commit first, its completion in a transaction of its own."""
    drive = _Runner._drive

    def two_steps(self: Any, body: Any, job: Any, limit_us: Any, context: Any, finish: Any, at: int) -> Any:
        if job is None:
            return drive(self, body, job, limit_us, context, finish, at)
        value = drive(self, body, job, limit_us, context, _nothing, at)
        if value[1] is None:
            self._raw.execute(ours("COMMIT"))
            self._raw.execute(ours("BEGIN IMMEDIATE"))
            finish(value[0])
        return value

    return [Patch(_Runner, "_drive", two_steps)]


@_bug(Rule.LOST, Rule.CHILD_MISSING)
def unknown_is_success() -> list[Patch]:
    """A commit that failed in an unknown way is answered as if it had happened."""
    commit = _Runner._commit

    def hopeful(self: Any) -> None:
        with contextlib.suppress(turn.OutcomeUnknown):
            commit(self)

    return [Patch(_Runner, "_commit", hopeful)]


@_bug(Rule.SPLIT, Rule.REFUSED_EXISTS, Rule.ROLLED_BACK)
def half_rollback() -> list[Patch]:
    """A mutation that failed is not rolled back, only recorded as failed."""
    return [Patch(turn, "_BACK", _NOTHING)]


@_bug(Rule.ROLLED_BACK)
def nested_stays() -> list[Patch]:
    """A nested mutation that failed is not rolled back."""
    return [Patch(body, "_ROLLBACK_NESTED", _NOTHING)]


@_bug(Rule.INDEX, Rule.HANGS)
def gate_open_on_rollback() -> list[Patch]:
    """What a rolled-back mutation scheduled is shown to the index all the same."""
    return [Patch(Changes, "rewind", _nothing)]


@_bug(Rule.PARTIAL, Rule.REFUSED_EXISTS)
def batch_in_pieces() -> list[Patch]:
    """A batch is committed one job at a time."""
    run = _Runner.run

    def in_pieces(self: Any, units: Any, refills: Any) -> Any:
        if len(units) != 1 or not isinstance(units[0], InsertJobs) or len(units[0].jobs) < 2:
            return run(self, units, refills)
        results = [run(self, [InsertJobs((job,))], refills if at == 0 else ()) for at, job in enumerate(units[0].jobs)]
        first = results[0]
        for later in results[1:]:
            first.effects.pending.extend(later.effects.pending)
            first.broken = first.broken or later.broken
        bad = [result.replies[0] for result in results if not isinstance(result.replies[0], Done)]
        ids = [result.replies[0].value[0] for result in results if isinstance(result.replies[0], Done)]
        first.replies = [bad[0] if bad else Done(ids)]
        return first

    return [Patch(_Runner, "run", in_pieces)]


@_bug(Rule.NUMBER_REUSED, Rule.ID_REUSED)
def numbers_reused() -> list[Patch]:
    """A boot gives out the sequence numbers again of jobs that were rolled back."""
    wrong = ours("SELECT 0 * length(value) FROM main._scheduler_meta WHERE name = 'seq_reserved'")
    return [Patch(recovery, "_RESERVED", wrong)]


# ------------------------------------------------------------------ claims and recovery


@_bug(Rule.STARTED_TOO_OFTEN, Rule.CANCELED_RAN, Rule.ATTEMPTS, Rule.STATE_CHANGED, Rule.TWO_LIVE)
def unconditional_claim() -> list[Patch]:
    """A claim looks at nothing, and takes what is in the index for pending."""
    return [
        _reworded(outcomes, "_CLAIM", " AND attempt = ? AND state = 'pending'", " AND ? >= 0"),
        _reworded(job_rows, "_DUE_MANY", " AND state = 'pending'", ""),
    ]


@_bug(Rule.UNFINISHED)
def attempt_not_counted() -> list[Patch]:
    """A claim does not count its attempt."""
    return [_reworded(outcomes, "_CLAIM", "attempt = ?, started_at_us", "attempt = ? - 1, started_at_us")]


@_bug(Rule.STARTED_TOO_OFTEN, Rule.TWO_LIVE, Rule.ATTEMPTS)
def running_claims_released() -> list[Patch]:
    """A reopening makes the claims of running actions pending again."""
    reopen = SqliteStore.reopen

    async def forgetful(self: Any, running: Any) -> Any:
        return await reopen(self, [])

    return [Patch(SqliteStore, "reopen", forgetful)]


@_bug(Rule.STARTED_TOO_OFTEN)
def boot_runs_again() -> list[Patch]:
    """A boot makes the actions pending again that another boot left in progress, with or without a retry policy."""
    judge = recovery._judge_left

    def generous(raw: Any, left: Any, boot: int, now_us: int, host: Any) -> Any:
        kind = mock.Mock(wraps=host)
        kind.judge = lambda job, failure, error: Again(failure, 1_000_000)
        return judge(raw, left, boot, now_us, kind)

    return [Patch(recovery, "_judge_left", generous)]


@_bug(Rule.UNFINISHED)
def boot_forgets() -> list[Patch]:
    """A boot leaves the actions of other boots in progress for ever."""
    return [_reworded(job_rows, "_LEFT", "boot <> ?", "boot = -?")]


@_bug(Rule.INDEX, Rule.UNFINISHED, Rule.HANGS)
def index_not_rebuilt() -> list[Patch]:
    """After a reopening the index is what it was."""
    rebuild = Dispatch.rebuild

    def once(self: Any, found: Any) -> None:
        if not self.index._windows:
            rebuild(self, found)

    return [Patch(Dispatch, "rebuild", once)]


# ------------------------------------------------------------------ the index, the alarm, the order


@_bug(Rule.INDEX, Rule.UNFINISHED)
def refill_forgets() -> list[Patch]:
    """A refill loses its first entry."""
    refill = Window.refill

    def forgetful(self: Any, after: Any, entries: Any, *, complete: bool) -> None:
        refill(self, after, entries[1:], complete=complete)

    return [Patch(Window, "refill", forgetful)]


@_bug(Rule.INDEX, Rule.UNFINISHED)
def horizon_stays() -> list[Patch]:
    """Evicting entries does not lower the horizon."""

    def evict(self: Any) -> None:
        del self._entries[max(self._entries_max * 3 // 4, 1) :]

    return [Patch(Window, "_evict", evict)]


@_bug(Rule.INDEX, Rule.UNFINISHED)
def put_back_forgets() -> list[Patch]:
    """Due entries that the store could not take are not put back."""
    return [Patch(Dispatch, "put_back", _nothing)]


@_bug(Rule.INDEX, Rule.PAUSE)
def put_back_doubles() -> list[Patch]:
    """A due entry that the store could not take alone is put back twice."""
    put_back = Dispatch.put_back

    def twice(self: Any, due: Any, gone: Any = ()) -> None:
        given = list(due)
        put_back(self, given * 2 if len(given) == 1 else given, gone)

    return [Patch(Dispatch, "put_back", twice)]


@_bug(Rule.ALARM, Rule.UNFINISHED)
def alarm_forgotten_on_hold() -> list[Patch]:
    """After the store took nothing, no alarm is armed."""
    arm = Actor._arm

    def wrong(self: Any) -> None:
        if self._hold.active:
            self._alarm.arm(None)
            reach("alarm.armed")
        else:
            arm(self)

    return [Patch(Actor, "_arm", wrong)]


@_bug(Rule.ALARM, Rule.UNFINISHED, Rule.LATE)
def alarm_keeps_first() -> list[Patch]:
    """An alarm that is armed is never set to an earlier moment."""
    arm = Actor._arm

    def lazy(self: Any) -> None:
        if self._alarm.armed_at_us is None:
            arm(self)

    return [Patch(Actor, "_arm", lazy)]


@_bug(Rule.EARLY)
def early_alarm_fires() -> list[Patch]:
    """What is nearly due is taken when the actor wakes, though it woke early."""
    take_due, earliest_us = JobIndex.take_due, JobIndex.earliest_us

    def take(self: Any, now_us: int, count_max: int, room: Any) -> Any:
        return take_due(self, now_us + _EARLY_US, count_max, room)

    def sooner(self: Any, now_us: int, gates: Any) -> int | None:
        when_us = earliest_us(self, now_us, gates)
        return None if when_us is None else when_us - _EARLY_US

    return [Patch(JobIndex, "take_due", take), Patch(JobIndex, "earliest_us", sooner)]


@_bug(Rule.ORDER)
def order_reversed() -> list[Patch]:
    """Of what is due together, the last comes first."""
    take = Window.take

    def backwards(self: Any, last: Any, count_max: int) -> Any:
        return take(self, last, count_max)[::-1]

    return [Patch(Window, "take", backwards)]


@_bug(Rule.UNFINISHED, Rule.STRANDED)
def completion_lost() -> list[Patch]:
    """An outcome that the store could not take is forgotten."""
    return [Patch(mailbox.Mailbox, "keep", _nothing)]


# ------------------------------------------------------------------ canceling, keys


class _Nobody(set[int]):
    """A set that never has what is looked for."""

    def __contains__(self, what: object) -> bool:
        return False


@_bug(Rule.CANCELED_RAN)
def cancel_not_seen_in_turn() -> list[Patch]:
    """A mutation that was canceled in its own turn runs."""
    run_due = _Runner._run_due

    def blind(self: Any, unit: Any, at: int) -> Any:
        with mock.patch.object(self._writer.changes, "canceled", _Nobody()):
            return run_due(self, unit, at)

    succeed = _reworded(outcomes, "_SUCCEED_MUTATION", " AND state = 'pending'", "")
    return [Patch(_Runner, "_run_due", blind), succeed]


@_bug(Rule.CANCELED_RAN)
def cancel_in_memory() -> list[Patch]:
    """A cancellation takes the job out of the index, not out of the file."""

    def forget(self: Any, seq: int, path: str, queue: str, fire_at_us: int, now_us: int) -> None:
        self._changes.leaves(queue, Entry(fire_at_us, seq))

    return [Patch(Steering, "cancel_pending", forget)]


@_bug(Rule.CANCELED_RAN)
def cancel_of_running_forgotten() -> list[Patch]:
    """A running action that was to be canceled is tried again."""

    def never(self: Any, seq: int) -> bool:
        return False

    keep = _reworded(steering, "_STOP", "canceling = 1", "canceling = 0")
    return [Patch(Changes, "is_canceling", never), keep]


@_bug(Rule.IDEMPOTENCY)
def idempotency_ignored() -> list[Patch]:
    """An idempotency key is not looked up, and not kept."""
    insert_one = JobWriter.insert_one

    def plain(self: Any, job: Any) -> str:
        return insert_one(self, job._replace(idempotency_key=None))

    return [Patch(JobWriter, "insert_one", plain)]


@_bug(Rule.KEY_LOST)
def key_ignored() -> list[Patch]:
    """A key is not looked up, and not kept."""
    insert_one = JobWriter.insert_one

    def plain(self: Any, job: Any) -> str:
        return insert_one(self, job._replace(key=None))

    return [Patch(JobWriter, "insert_one", plain)]


# ------------------------------------------------------------------ retries, time limits, lanes, gates


@_bug(Rule.RESCHEDULED)
def retry_rewrites_schedule() -> list[Patch]:
    """A retry writes its own moment over the one that was asked for."""
    return [_reworded(outcomes, "_AGAIN_ACTION", "SET state", "SET scheduled_at_us = scheduled_at_us + 1, state")]


@_bug(Rule.STARTED_TOO_OFTEN)
def one_attempt_more() -> list[Patch]:
    """A job is tried once more than it may be."""
    next_us = retry.next_attempt_us

    def generous(policy: Any, attempt: int, error: Any, chance: float) -> Any:
        return next_us(policy, attempt - 1, error, chance)

    from runtime import engine

    return [Patch(engine, "next_attempt_us", generous)]


@_bug(Rule.GAVE_UP)
def one_attempt_less() -> list[Patch]:
    """A job is tried once less than it may be."""
    next_us = retry.next_attempt_us

    def mean(policy: Any, attempt: int, error: Any, chance: float) -> Any:
        return next_us(policy, attempt + 1, error, chance)

    from runtime import engine

    return [Patch(engine, "next_attempt_us", mean)]


@_bug(Rule.PAUSE)
def no_pause() -> list[Patch]:
    """A failed attempt is followed by the next at once."""
    return [Patch(retry.Retry, "delay_us", lambda *_: 10_000)]


@_bug(Rule.UNPLANNED)
def time_limit_ignored() -> list[Patch]:
    """An action runs as long as it likes."""
    return [Patch(Attempts, "_time_is_up", _nothing)]


@_bug(Rule.LANE)
def lane_ignored() -> list[Patch]:
    """Jobs of one lane wait side by side."""
    values = JobWriter._values

    def without(self: Any, job: Any, seq: int, nonce: int) -> Any:
        if job.lane is not None:
            self.changes.waits(job.queue, Entry(job.fire_at_us, seq))
        return values(self, job._replace(lane=None), seq, nonce)

    return [Patch(JobWriter, "_values", without)]


@_bug(Rule.LANE)
def lane_let_go() -> list[Patch]:
    """A job that waits for its next attempt lets others of its lane go first."""
    return [
        _reworded(lanes, "_HEAD", "ORDER BY attempt = 0, fire_at_us", "ORDER BY fire_at_us"),
        _reworded(lanes, "_QUEUED", "fire_at_us, attempt FROM", "fire_at_us, 0 FROM"),
    ]


@_bug(Rule.OVER_LIMIT)
def slots_not_taken() -> list[Patch]:
    """An action that starts takes no slot."""
    return [Patch(Slots, "started", _nothing), Patch(Slots, "ended", _nothing)]


@_bug(Rule.UNFINISHED, Rule.ALARM)
def slots_not_given_back() -> list[Patch]:
    """An action that ends keeps its slot."""
    return [Patch(Slots, "ended", _nothing)]


@_bug(Rule.OVER_LIMIT)
def rate_ignored() -> list[Patch]:
    """A rate lets everything through."""
    return [Patch(RateGate, "room", lambda *_: 1_000)]


@_bug(Rule.PAUSED)
def pause_ignored() -> list[Patch]:
    """A paused app goes on."""
    apply = Settings.apply

    def deaf(self: Any, unit: Any) -> None:
        if unit.name != PAUSED:
            apply(self, unit)

    return [Patch(Settings, "apply", deaf)]
