"""Bugs to plant, one at a time, to show that the simulation can fail.

Each is a mistake that a scheduler like this one could make, and names the rules of which at least one must say so.  The
product has no switch for them: a part of it is replaced for the length of a run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from unittest import mock

from actor_scheduler import mailbox
from actor_scheduler.actor import Actor
from actor_scheduler.crashpoints import reach
from actor_scheduler.dispatch import Dispatch
from actor_scheduler.index import JobIndex, Window
from actor_scheduler.model import Again, Entry
from actor_scheduler.store.base import Done, InsertJobs
from actor_scheduler.store.sqlite import SqliteStore, body, job_rows, mutations, outcomes, recovery, steering, turn
from actor_scheduler.store.sqlite.changes import Changes
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.store.sqlite.jobs import JobWriter
from actor_scheduler.store.sqlite.mutations import MutationRunner
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


def bug(*rules: Rule) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
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


def reworded(owner: Any, name: str, before: str, after: str) -> Patch:
    """Return a statement with a part of it changed."""
    text = getattr(owner, name)
    assert before in text, f"{name} reads otherwise by now: plant the bug elsewhere"
    return Patch(owner, name, text.replace(before, after))


def nothing(*_args: Any, **_options: Any) -> None:
    return None


# ------------------------------------------------------------------ durability


@bug(Rule.LOST, Rule.GHOST, Rule.CHILD_MISSING)
def reply_before_commit() -> list[Patch]:
    """The commit is put off to the beginning of the next turn; the callers are answered now."""
    attempt = _Runner._attempt

    def commit_before(self: Any, batch: Any, began_us: int) -> Any:
        if self._raw.in_transaction:
            self._raw.execute(ours("COMMIT"))
        return attempt(self, batch, began_us)

    return [Patch(_Runner, "_attempt", commit_before), Patch(_Runner, "_commit", nothing)]


@bug(Rule.DOUBLED, Rule.SPLIT)
def second_transaction() -> list[Patch]:
    """A mutation's effects commit first, its completion in a transaction of its own."""
    drive = MutationRunner._drive

    def two_steps(self: Any, body: Any, job: Any, limit_us: Any, context: Any, finish: Any, at: int) -> Any:
        if job is None:
            return drive(self, body, job, limit_us, context, finish, at)
        value = drive(self, body, job, limit_us, context, nothing, at)
        if value[1] is None:
            self._raw.execute(ours("COMMIT"))
            self._raw.execute(ours("BEGIN IMMEDIATE"))
            finish(value[0])
        return value

    return [Patch(MutationRunner, "_drive", two_steps)]


@bug(Rule.LOST, Rule.CHILD_MISSING)
def unknown_is_success() -> list[Patch]:
    """A commit that failed in an unknown way is answered as if it had happened."""
    commit = _Runner._commit

    def hopeful(self: Any) -> None:
        with contextlib.suppress(turn.OutcomeUnknown):
            commit(self)

    return [Patch(_Runner, "_commit", hopeful)]


@bug(Rule.SPLIT, Rule.REFUSED_EXISTS, Rule.ROLLED_BACK)
def half_rollback() -> list[Patch]:
    """A mutation that failed is not rolled back, only recorded as failed."""
    return [Patch(mutations, "_BACK", _NOTHING)]


@bug(Rule.ROLLED_BACK)
def nested_stays() -> list[Patch]:
    """A nested mutation that failed is not rolled back."""
    return [Patch(body, "_ROLLBACK_NESTED", _NOTHING)]


@bug(Rule.INDEX, Rule.HANGS)
def gate_open_on_rollback() -> list[Patch]:
    """What a rolled-back mutation scheduled is shown to the index all the same."""
    return [Patch(Changes, "rewind", nothing)]


@bug(Rule.PARTIAL, Rule.REFUSED_EXISTS)
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


@bug(Rule.NUMBER_REUSED, Rule.ID_REUSED)
def numbers_reused() -> list[Patch]:
    """A boot gives out the sequence numbers again of jobs that were rolled back."""
    wrong = ours("SELECT 0 * length(value) FROM main._scheduler_meta WHERE name = 'seq_reserved'")
    return [Patch(recovery, "_RESERVED", wrong)]


# ------------------------------------------------------------------ claims and recovery


@bug(Rule.STARTED_TOO_OFTEN, Rule.CANCELED_RAN, Rule.ATTEMPTS, Rule.STATE_CHANGED, Rule.TWO_LIVE)
def unconditional_claim() -> list[Patch]:
    """A claim looks at nothing, and takes what is in the index for pending."""
    return [
        reworded(outcomes, "_CLAIM", " AND attempt = ? AND state = 'pending'", " AND ? >= 0"),
        reworded(job_rows, "_DUE_MANY", " AND state = 'pending'", ""),
    ]


@bug(Rule.UNFINISHED)
def attempt_not_counted() -> list[Patch]:
    """A claim does not count its attempt."""
    return [reworded(outcomes, "_CLAIM", "attempt = ?, started_at_us", "attempt = ? - 1, started_at_us")]


@bug(Rule.STARTED_TOO_OFTEN, Rule.TWO_LIVE, Rule.ATTEMPTS)
def running_claims_released() -> list[Patch]:
    """A reopening makes the claims of running actions pending again."""
    reopen = SqliteStore.reopen

    async def forgetful(self: Any, running: Any) -> Any:
        return await reopen(self, [])

    return [Patch(SqliteStore, "reopen", forgetful)]


@bug(Rule.STARTED_TOO_OFTEN)
def boot_runs_again() -> list[Patch]:
    """A boot makes the actions pending again that another boot left in progress, with or without a retry policy."""
    judge = recovery._judge_left

    def generous(raw: Any, left: Any, boot: int, now_us: int, host: Any) -> Any:
        kind = mock.Mock(wraps=host)
        kind.judge = lambda job, failure, error: Again(failure, 1_000_000)
        return judge(raw, left, boot, now_us, kind)

    return [Patch(recovery, "_judge_left", generous)]


@bug(Rule.UNFINISHED)
def boot_forgets() -> list[Patch]:
    """A boot leaves the actions of other boots in progress for ever."""
    return [reworded(job_rows, "_LEFT", "boot <> ?", "boot = -?")]


@bug(Rule.INDEX, Rule.UNFINISHED, Rule.HANGS)
def index_not_rebuilt() -> list[Patch]:
    """After a reopening the index is what it was."""
    rebuild = Dispatch.rebuild

    def once(self: Any, found: Any) -> None:
        if not self.index._windows:
            rebuild(self, found)

    return [Patch(Dispatch, "rebuild", once)]


# ------------------------------------------------------------------ the index, the alarm, the order


@bug(Rule.INDEX, Rule.UNFINISHED)
def refill_forgets() -> list[Patch]:
    """A refill loses its first entry."""
    refill = Window.refill

    def forgetful(self: Any, after: Any, entries: Any, *, complete: bool) -> None:
        refill(self, after, entries[1:], complete=complete)

    return [Patch(Window, "refill", forgetful)]


@bug(Rule.INDEX, Rule.UNFINISHED)
def horizon_stays() -> list[Patch]:
    """Evicting entries does not lower the horizon."""

    def evict(self: Any) -> None:
        del self._entries[max(self._entries_max * 3 // 4, 1) :]

    return [Patch(Window, "_evict", evict)]


@bug(Rule.INDEX, Rule.UNFINISHED)
def put_back_forgets() -> list[Patch]:
    """Due entries that the store could not take are not put back."""
    return [Patch(Dispatch, "put_back", nothing)]


@bug(Rule.INDEX, Rule.PAUSE)
def put_back_doubles() -> list[Patch]:
    """A due entry that the store could not take alone is put back twice."""
    put_back = Dispatch.put_back

    def twice(self: Any, due: Any, gone: Any = ()) -> None:
        given = list(due)
        put_back(self, given * 2 if len(given) == 1 else given, gone)

    return [Patch(Dispatch, "put_back", twice)]


@bug(Rule.ALARM, Rule.UNFINISHED)
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


@bug(Rule.ALARM, Rule.UNFINISHED, Rule.LATE)
def alarm_keeps_first() -> list[Patch]:
    """An alarm that is armed is never set to an earlier moment."""
    arm = Actor._arm

    def lazy(self: Any) -> None:
        if self._alarm.armed_at_us is None:
            arm(self)

    return [Patch(Actor, "_arm", lazy)]


@bug(Rule.EARLY)
def early_alarm_fires() -> list[Patch]:
    """What is nearly due is taken when the actor wakes, though it woke early."""
    take_due, earliest_us = JobIndex.take_due, JobIndex.earliest_us

    def take(self: Any, now_us: int, count_max: int, room: Any) -> Any:
        return take_due(self, now_us + _EARLY_US, count_max, room)

    def sooner(self: Any, now_us: int, gates: Any) -> int | None:
        when_us = earliest_us(self, now_us, gates)
        return None if when_us is None else when_us - _EARLY_US

    return [Patch(JobIndex, "take_due", take), Patch(JobIndex, "earliest_us", sooner)]


@bug(Rule.ORDER)
def order_reversed() -> list[Patch]:
    """Of what is due together, the last comes first."""
    take = Window.take

    def backwards(self: Any, last: Any, count_max: int) -> Any:
        return take(self, last, count_max)[::-1]

    return [Patch(Window, "take", backwards)]


@bug(Rule.UNFINISHED, Rule.STRANDED)
def completion_lost() -> list[Patch]:
    """An outcome that the store could not take is forgotten."""
    return [Patch(mailbox.Mailbox, "keep", nothing)]


# ------------------------------------------------------------------ canceling, keys


class _Nobody(set[int]):
    """A set that never has what is looked for."""

    def __contains__(self, what: object) -> bool:
        return False


@bug(Rule.CANCELED_RAN)
def cancel_not_seen_in_turn() -> list[Patch]:
    """A mutation that was canceled in its own turn runs."""
    due = MutationRunner.due

    def blind(self: Any, unit: Any, job: Any, at: int) -> Any:
        with mock.patch.object(self._writer.changes, "canceled", _Nobody()):
            return due(self, unit, job, at)

    succeed = reworded(outcomes, "_SUCCEED_MUTATION", " AND state = 'pending'", "")
    return [Patch(MutationRunner, "due", blind), succeed]


@bug(Rule.CANCELED_RAN)
def cancel_in_memory() -> list[Patch]:
    """A cancellation takes the job out of the index, not out of the file."""

    def forget(self: Any, seq: int, path: str, queue: str, fire_at_us: int, now_us: int) -> None:
        self._changes.leaves(queue, Entry(fire_at_us, seq))

    return [Patch(Steering, "cancel_pending", forget)]


@bug(Rule.CANCELED_RAN)
def cancel_of_running_forgotten() -> list[Patch]:
    """A running action that was to be canceled is tried again."""

    def never(self: Any, seq: int) -> bool:
        return False

    keep = reworded(steering, "_STOP", "canceling = 1", "canceling = 0")
    return [Patch(Changes, "is_canceling", never), keep]


@bug(Rule.IDEMPOTENCY)
def idempotency_ignored() -> list[Patch]:
    """An idempotency key is not looked up, and not kept."""
    insert_one = JobWriter.insert_one

    def plain(self: Any, job: Any) -> str:
        return insert_one(self, job._replace(idempotency_key=None))

    return [Patch(JobWriter, "insert_one", plain)]


@bug(Rule.KEY_LOST)
def key_ignored() -> list[Patch]:
    """A key is not looked up, and not kept."""
    insert_one = JobWriter.insert_one

    def plain(self: Any, job: Any) -> str:
        return insert_one(self, job._replace(key=None))

    return [Patch(JobWriter, "insert_one", plain)]
