"""More of what every store must do: attempts that are followed by another, and jobs that are steered and forgotten.

A part of the conformance suite: `conformance.CASES` has these too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actor_scheduler.errors import KeyConflict
from actor_scheduler.limits import DEATHS_MAX
from actor_scheduler.model import ACTIONS, MUTATIONS, Again, Entry, Failed, JobFilter, Stopped, Succeeded
from actor_scheduler.store.base import (
    CancelJob,
    CompleteJob,
    Done,
    DropJob,
    DropJobs,
    Effects,
    InsertJobs,
    Mutate,
    Prune,
    Pruned,
    Refused,
    RetryJob,
    RetryJobs,
    Set,
    Swept,
    Tx,
)
from actor_scheduler.testing.bench import SECOND, Bench, Boom, action, claims, mutation, opened, refused, writes
from actor_scheduler.testing.clock import START_US

if TYPE_CHECKING:
    from actor_scheduler.model import DueJob, FailedAttempt
    from actor_scheduler.testing.bench import Case, MakeStore

_FAILURE: Final = Failed("error", "Boom: no")
_AGAIN: Final = Again(_FAILURE, 7 * SECOND)
_ALL: Final = JobFilter()


async def _claim(bench: Bench) -> DueJob:
    (job,) = claims(await bench.run(*await bench.due(ACTIONS)))
    return job


async def _record(bench: Bench, job_id: str) -> list[tuple[int, str | None]]:
    attempts: list[FailedAttempt] = await bench.ask(lambda snapshot: snapshot.failed_attempts(job_id))
    return [(each.attempt, each.error) for each in attempts]


# ------------------------------------------------------------------ attempts


async def a_failed_attempt_of_an_action_may_be_followed_by_another(make_store: MakeStore) -> None:
    """Pending after its pause with its number kept; resending the outcome, as after an error, changes nothing."""
    async with opened(make_store) as bench:
        (job_id,) = await bench.insert(action())
        job = await _claim(bench)
        ends = CompleteJob(job, _AGAIN, START_US + 5)
        assert await bench.value(ends) is True
        entry = Entry(START_US + 5 + 7 * SECOND, job.seq)
        assert bench.last.effects == Effects(pending=[(ACTIONS, entry)])
        assert await bench.value(ends) is True
        assert bench.last.effects == Effects()
        row = await bench.job(job_id)
        assert (row.state, row.attempt, row.cause, row.error) == ("pending", 1, "error", "Boom: no")
        assert (row.completed_at, await _record(bench, job_id)) == (None, [(1, "Boom: no")])
        assert await bench.entries(ACTIONS) == [entry]
        second = await _claim(bench)
        assert (second.attempt, second.occurrence_id, second.scheduled_at_us) == (2, job_id, START_US)
        assert await bench.value(ends) is False
        assert await bench.value(CompleteJob(second, Succeeded(), START_US)) is True
        row = await bench.job(job_id)
        assert (row.state, row.attempt, row.error, await _record(bench, job_id)) == (
            "success", 2, None, [(1, "Boom: no")],
        )  # fmt: skip


async def a_failed_attempt_of_a_mutation_may_be_followed_by_another(make_store: MakeStore) -> None:
    """Nothing of it is kept but its record; the next attempt's writes and success commit together."""
    async with opened(make_store) as bench:
        bench.host.again["m"] = 7 * SECOND
        bench.host.bodies["m"] = writes("lost", then=Boom, child=mutation("child"))
        (job_id,) = await bench.insert(mutation())
        (due,) = await bench.due(MUTATIONS)
        assert await bench.run(due, due) == [Done(), Done()]
        assert bench.last.effects == Effects(pending=[(MUTATIONS, Entry(START_US + 7 * SECOND, due.entry.seq))])
        row = await bench.job(job_id)
        assert (row.state, row.attempt, row.error, await bench.items()) == ("pending", 1, "Boom: lost", {})
        assert await _record(bench, job_id) == [(1, "Boom: lost")]
        bench.host.bodies["m"] = writes("kept")
        await bench.restart()
        await bench.run(*await bench.due(MUTATIONS))
        row = await bench.job(job_id)
        assert (row.state, row.attempt, row.error, await bench.items()) == ("success", 2, None, {"kept": 1})


async def a_boot_judges_what_another_left(make_store: MakeStore) -> None:
    """Actions with attempts left wait for the next one, this one counted; after DEATHS_MAX deaths they are failed."""
    async with opened(make_store) as bench:
        bench.host.again["a"] = 3 * SECOND
        (job_id,) = await bench.insert(action())
        for death in range(1, DEATHS_MAX):
            assert (await _claim(bench)).attempt == death
            await bench.restart()
            row = await bench.job(job_id)
            assert (row.state, row.attempt, row.cause) == ("pending", death, "interrupted")
            assert [entry.fire_at_us for entry in await bench.entries(ACTIONS)] == [START_US + 3 * SECOND]
        await _claim(bench)
        await bench.restart()
        row = await bench.job(job_id)
        assert (row.state, row.attempt, row.cause) == ("failed", DEATHS_MAX, "crash_loop")
        assert await bench.entries(ACTIONS) == []


# ------------------------------------------------------------------ a running action is canceled


async def a_stopped_attempt_is_a_canceled_job(make_store: MakeStore) -> None:
    """With `running` the answer is True and the actor is told to stop it; then it is over, and can't be retried."""
    async with opened(make_store) as bench:
        (job_id,) = await bench.insert(action(key="k"))
        job = await _claim(bench)
        assert await bench.value(CancelJob(key="k", running=True)) is True
        assert bench.last.effects == Effects(stopping=[(job.seq, True)])
        assert await bench.states([job_id]) == ["in_progress"]
        assert await bench.value(CompleteJob(job, Stopped(), START_US + 5)) is True
        assert bench.last.effects == Effects(ended=[job.seq])
        row = await bench.job(job_id)
        assert (row.state, row.cause, row.error) == ("canceled", None, None)
        assert await bench.value(CancelJob(job_id, running=True)) is True
        assert await bench.value(RetryJob(job_id, START_US)) is False


async def a_canceled_action_is_not_retried(make_store: MakeStore) -> None:
    """Asked to be canceled while it ran, it has no next attempt: not by its outcome, and not after a crash."""
    async with opened(make_store) as bench:
        bench.host.again["a"] = SECOND
        ids = await bench.insert(action(), action(after_us=1))
        first, _ = claims(await bench.run(*await bench.due(ACTIONS)))
        assert await bench.run(*[CancelJob(job_id) for job_id in ids]) == [Done(False), Done(False)]
        assert await bench.value(CompleteJob(first, _AGAIN, START_US)) is True
        assert bench.last.effects == Effects(ended=[first.seq])
        await bench.restart()
        assert (await bench.states(ids), await bench.entries(ACTIONS)) == (["canceled"] * 2, [])


async def a_rolled_back_cancel_has_marked_nothing(make_store: MakeStore) -> None:
    """After a mutation that asks for it and then fails the action is as it was: retried, its children alive."""
    async with opened(make_store) as bench:
        (job_id,) = await bench.insert(action())
        job = await _claim(bench)

        async def cancels(tx: Tx) -> None:
            assert await tx.cancel_job(CancelJob(job_id, running=True)) is True
            raise Boom

        (reply,) = await bench.run(Mutate(cancels))
        assert isinstance(reply, Refused)
        assert bench.last.effects == Effects()
        children = await bench.insert(mutation(parent_id=job_id))
        assert await bench.value(CompleteJob(job, _AGAIN, START_US)) is True
        assert await bench.states([job_id, *children]) == ["pending", "pending"]


async def the_children_of_a_canceled_action_are_born_canceled(make_store: MakeStore) -> None:
    """From the cancel on, in the same turn too, by itself or in a mutation; never those of others."""
    async with opened(make_store) as bench:
        (job_id, other) = await bench.insert(action(), action(after_us=1))
        (before,) = await bench.insert(mutation(parent_id=job_id, after_us=9))
        await bench.run(*await bench.due(ACTIONS))
        made: list[str] = []

        async def schedules(tx: Tx) -> None:
            made.append(await tx.insert_job(mutation(parent_id=job_id)))
            made.extend(await tx.insert_jobs([mutation(parent_id=other), action(parent_id=job_id)]))

        child = mutation(parent_id=job_id)
        jobs = [child, child._replace(key="k"), child._replace(lane="l"), child._replace(parent_id=other)]
        replies = await bench.run(CancelJob(job_id), InsertJobs(jobs), Mutate(schedules))
        ids: list[str] = replies[1].value if isinstance(replies[1], Done) else []
        canceled, pending = "canceled", "pending"
        assert await bench.states([*ids, *made]) == [canceled] * 3 + [pending, canceled, pending, canceled]
        assert await bench.states([before]) == [pending]
        assert len(await bench.entries(MUTATIONS)) == 3
        assert await bench.insert(mutation(key="k", on_conflict="error")) != [ids[1]]


# ------------------------------------------------------------------ dead letters


async def a_retry_by_hand_keeps_the_record(make_store: MakeStore) -> None:
    """Its last attempt is on record; where the key is taken it is refused, and nothing has changed."""
    async with opened(make_store) as bench:
        bench.host.bodies["m"] = writes("x", then=Boom)
        (job_id,) = await bench.insert(mutation(key="k"))
        await bench.run(*await bench.due(MUTATIONS))
        (taken,) = await bench.insert(mutation(key="k", after_us=9 * SECOND))
        await refused(bench.value(RetryJob(job_id, START_US)), KeyConflict)
        assert (await _record(bench, job_id), bench.last.effects) == ([], Effects())
        await bench.run(CancelJob(taken))
        assert await bench.value(RetryJob(job_id, START_US + 3)) is True
        row = await bench.job(job_id)
        assert (row.state, row.attempt, row.error, row.completed_at) == ("pending", 1, None, None)
        assert await _record(bench, job_id) == [(1, "Boom: x")]


async def many_are_retried_or_dropped_page_by_page(make_store: MakeStore) -> None:
    """Each step takes one page and says where the next begins; only what fits the filter and has ended is touched."""
    async with opened(make_store) as bench:
        bench.host.bodies.update(m=writes("x", then=Boom), n=writes("x", then=Boom))
        ids = await bench.insert(*[mutation("m" if at % 2 else "n") for at in range(10)])
        await bench.run(*await bench.due(MUTATIONS))
        (waits,) = await bench.insert(mutation(after_us=9 * SECOND))
        of_m = JobFilter(paths=("m",), state="failed")
        steps: list[int] = []
        cursor: str | None = None
        while True:
            swept: Swept = await bench.value(RetryJobs(of_m, cursor, 2, START_US))
            steps.append(swept.changed)
            cursor = swept.next_cursor
            if cursor is None:
                break
        assert steps == [2, 2, 1]
        assert await bench.states(ids) == ["failed", "pending"] * 5
        assert await bench.value(DropJobs(JobFilter(cause="timeout"), None, 100)) == Swept(0, None)
        assert await bench.value(DropJobs(_ALL, None, 100)) == Swept(5, None)
        assert await bench.states([*ids[1::2], waits]) == ["pending"] * 6
        assert await bench.count() == 6


async def two_dead_letters_of_one_key_are_not_both_retried(make_store: MakeStore) -> None:
    """Whose key is taken stays as it is, and the sweep goes on."""
    async with opened(make_store) as bench:
        bench.host.bodies["m"] = writes("x", then=Boom)
        ids: list[str] = []
        for _ in range(2):
            ids += await bench.insert(mutation(key="k"))
            await bench.run(*await bench.due(MUTATIONS))
        ids += await bench.insert(mutation())
        await bench.run(*await bench.due(MUTATIONS))
        before = await bench.job(ids[0])
        assert await bench.value(RetryJobs(_ALL, None, 100, START_US)) == Swept(2, None)
        assert await bench.states(ids) == ["failed", "pending", "pending"]
        assert (await bench.job(ids[0]), await _record(bench, ids[0])) == (before, [])


async def only_an_ended_job_is_dropped(make_store: MakeStore) -> None:
    """With its record and its idempotency key; what waits or runs stays."""
    async with opened(make_store) as bench:
        (job_id,) = await bench.insert(action(idempotency_key="once"))
        assert await bench.value(DropJob(job_id)) is False
        await bench.value(CompleteJob(await _claim(bench), _AGAIN, START_US))
        job = await _claim(bench)
        assert await bench.value(DropJob(job_id)) is False
        await bench.value(CompleteJob(job, _FAILURE, START_US))
        assert await bench.run(DropJob(job_id), DropJob(job_id)) == [Done(True), Done(False)]
        assert (await bench.count(), await _record(bench, job_id)) == (0, [])
        assert await bench.value(CompleteJob(job, Succeeded(), START_US)) is False
        assert await bench.insert(action(idempotency_key="once")) != [job_id]


# ------------------------------------------------------------------ what is kept


async def jobs_are_forgotten_when_they_were_kept_long_enough(make_store: MakeStore) -> None:
    """Longest first, at most as many as asked for; never one that has not ended, or is kept for ever."""
    async with opened(make_store) as bench:
        bench.host.bodies["m"] = writes("x", then=Boom)
        bench.host.keeps_us = 10 * SECOND
        (waits,) = await bench.insert(action())
        ids: list[str] = []
        for at in range(3):
            ids += await bench.insert(mutation())
            bench.clock.move_to(START_US + at * SECOND)
            await bench.run(*await bench.due(MUTATIONS))
        bench.host.keeps_us = None
        for_ever = await bench.insert(mutation())
        await bench.run(*await bench.due(MUTATIONS))
        first_us = START_US + 10 * SECOND
        assert await bench.value(Prune(first_us - 1, 100)) == Pruned(0, first_us)
        assert await bench.value(Prune(first_us + SECOND, 1)) == Pruned(1, first_us + SECOND)
        assert await bench.ask(lambda snapshot: snapshot.get_job(ids[0])) is None
        assert await bench.value(RetryJob(ids[1], START_US)) is True
        assert await bench.value(Prune(START_US + (1 << 50), 100)) == Pruned(1, None)
        assert await bench.states([waits, ids[1], *for_ever]) == ["pending", "pending", "failed"]
        assert await bench.value(RetryJob(ids[0], START_US)) is False


async def a_setting_is_kept_until_it_is_taken_away(make_store: MakeStore) -> None:
    """Over restarts, as text or as a number."""
    async with opened(make_store) as bench:
        await bench.run(Set("a", "text"), Set("b", 0), Set("c", 1), Set("c", None), Set("a", "other"))
        await bench.restart()
        assert (await bench.store.reopen([])).settings == {"a": "other", "b": 0}


CASES: Final[tuple[Case, ...]] = (
    a_failed_attempt_of_an_action_may_be_followed_by_another,
    a_failed_attempt_of_a_mutation_may_be_followed_by_another, a_boot_judges_what_another_left,
    a_stopped_attempt_is_a_canceled_job, a_canceled_action_is_not_retried, a_rolled_back_cancel_has_marked_nothing,
    the_children_of_a_canceled_action_are_born_canceled, a_retry_by_hand_keeps_the_record,
    many_are_retried_or_dropped_page_by_page, two_dead_letters_of_one_key_are_not_both_retried,
    only_an_ended_job_is_dropped, jobs_are_forgotten_when_they_were_kept_long_enough,
    a_setting_is_kept_until_it_is_taken_away,
)  # fmt: skip
