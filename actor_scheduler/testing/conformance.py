"""What every store must do, as cases that any store can be run through.

    @pytest.mark.parametrize("case", conformance.CASES, ids=lambda case: case.__name__)
    async def test_the_store_conforms(case, tmp_path):
        await case(lambda host, clock: MyStore(tmp_path / "app.db", host, clock, schema=conformance.SCHEMA))

The factory makes a store that is not open yet. Within one case every call stands for the same database, empty at
first but for the tables of SCHEMA; a second call is a new process on it. Cases use nothing but the store's port.
"""

from __future__ import annotations

import asyncio
from typing import Final

from actor_scheduler import codec
from actor_scheduler.errors import IntegrityError, KeyConflict
from actor_scheduler.model import ACTIONS, MUTATIONS, Entry, Failed, JobFilter, Outcome, Succeeded
from actor_scheduler.store.base import (
    CancelJob,
    CompleteJob,
    Done,
    Earlier,
    Effects,
    Idempotent,
    InsertJobs,
    Mutate,
    Refill,
    Refused,
    RetryJob,
    Snapshot,
    Tx,
    Unit,
)
from actor_scheduler.testing import cron_cases, cron_change_cases, operator_cases, steering_cases
from actor_scheduler.testing.bench import (
    NOTHING,
    SCHEMA,
    SECOND,
    Bench,
    Boom,
    Case,
    MakeStore,
    ScriptedHost,
    action,
    claims,
    mutation,
    opened,
    orphans,
    read_items,
    refused,
    writes,
)
from actor_scheduler.testing.clock import START_US

__all__ = ["CASES", "SCHEMA", "Bench", "Case", "MakeStore", "ScriptedHost"]


# ------------------------------------------------------------------ jobs go in


async def inserted_jobs_have_ids_in_order_of_acceptance(make_store: MakeStore) -> None:
    """Ids are distinct, sort by acceptance over turns and restarts, and find the job as it was given."""
    async with opened(make_store) as bench:
        first = await bench.insert(mutation(after_us=5), action(), mutation("n", key="k", parent_id="p"))
        pending = bench.last.effects.pending
        second = await bench.insert(mutation())
        await bench.restart()
        third = await bench.insert(mutation())
        ids = [*first, *second, *third]
        assert ids == sorted(set(ids))
        assert [(queue, entry.fire_at_us) for queue, entry in pending] == [
            (MUTATIONS, START_US + 5),
            (ACTIONS, START_US),
            (MUTATIONS, START_US),
        ]
        assert [entry.seq for _, entry in pending] == sorted({entry.seq for _, entry in pending})
        job = await bench.job(first[2])
        assert (job.id, job.path, job.kind, job.state, job.args) == (first[2], "n", "mutation", "pending", {})
        assert (job.key, job.parent_id, job.attempt, job.occurrence_id) == ("k", "p", 0, first[2])
        page = await bench.ask(lambda snapshot: snapshot.list_jobs(JobFilter(), None, 100))
        assert [job.id for job in page.items] == ids[::-1]


async def ids_are_never_given_twice(make_store: MakeStore) -> None:
    """Neither a rolled-back mutation, nor a refused insert, nor a restart gives an id out again."""
    async with opened(make_store) as bench:
        seen: list[str] = []

        async def schedules_and_fails(tx: Tx) -> None:
            seen.append(await tx.insert_job(mutation()))
            raise Boom

        for _ in range(3):
            (reply,) = await bench.run(Mutate(schedules_and_fails))
            assert isinstance(reply, Refused)
            assert isinstance(reply.error, Boom)
            seen += await bench.insert(mutation())
            await bench.restart()
        assert seen == sorted(set(seen))
        assert await bench.count() == 3


async def an_unknown_id_finds_and_cancels_nothing(make_store: MakeStore) -> None:
    """Text that is no id, and an id whose nonce is another's, are nobody's."""
    async with opened(make_store) as bench:
        (job_id,) = await bench.insert(mutation())
        near = job_id[:-1] + ("0" if job_id[-1] != "0" else "1")
        for unknown in (near, "0" * 32, "", "x", "7" + "f" * 31):
            assert await bench.ask(lambda snapshot, which=unknown: snapshot.get_job(which)) is None  # type: ignore[misc]
            assert await bench.value(CancelJob(unknown)) is False
            assert await bench.value(RetryJob(unknown, START_US)) is False
        assert await bench.states([job_id]) == ["pending"]


async def a_key_stands_for_one_unfinished_job(make_store: MakeStore) -> None:
    """`keep` gives the first job's id, `replace` cancels it, `error` refuses all of its unit; an ended job frees it."""
    async with opened(make_store) as bench:
        (first,) = await bench.insert(mutation(key="k"))
        assert await bench.insert(mutation("other", key="k", on_conflict="keep")) == [first]
        assert bench.last.effects == Effects()
        (second,) = await bench.insert(mutation(key="k", on_conflict="replace", after_us=9))
        assert second != first
        assert await bench.states([first, second]) == ["canceled", "pending"]
        assert [entry.fire_at_us for _, entry in bench.last.effects.gone] == [START_US]
        assert [entry.fire_at_us for _, entry in bench.last.effects.pending] == [START_US + 9]
        before = await bench.count()
        await refused(bench.insert(mutation(), mutation(key="k", on_conflict="error"), mutation()), KeyConflict)
        assert (await bench.count(), bench.last.effects) == (before, Effects())
        assert await bench.value(CancelJob(key="k")) is True
        (third,) = await bench.insert(action(key="k", on_conflict="error"))
        claimed = claims(await bench.run(*await bench.due(ACTIONS)))
        await refused(bench.insert(mutation(key="k", on_conflict="replace")), KeyConflict)
        assert await bench.insert(mutation(key="k")) == [third]
        await bench.run(CompleteJob(claimed[0], Succeeded(), START_US))
        assert await bench.insert(mutation(key="k", on_conflict="error")) != [third]


async def an_idempotency_key_stands_for_one_job_for_ever(make_store: MakeStore) -> None:
    """A resend is the same job in any state, over restarts; with other arguments or path it is refused."""
    async with opened(make_store) as bench:
        job = mutation(idempotency_key="once")
        (first,) = await bench.insert(job)
        assert await bench.insert(job, job) == [first, first]
        bench.host.bodies["m"] = writes("ran")
        await bench.run(*await bench.due(MUTATIONS))
        await bench.restart()
        assert await bench.insert(job._replace(fire_at_us=START_US + SECOND)) == [first]
        assert bench.last.effects == Effects()
        await refused(bench.insert(job._replace(args=codec.encode({"x": 1}))), KeyConflict)
        await refused(bench.insert(mutation(), job._replace(path="n")), KeyConflict)
        assert (await bench.count(), await bench.items()) == (1, {"ran": 1})


async def a_live_mutation_with_a_key_takes_effect_once(make_store: MakeStore) -> None:
    """The first success answers every resend, a failure leaves nothing, and other arguments are refused."""
    async with opened(make_store) as bench:
        once = Idempotent("once", "m", codec.encode({"x": 1}))
        (reply,) = await bench.run(Mutate(writes("a", then=Boom), idempotent=once))
        assert isinstance(reply, Refused)
        assert await bench.value(Mutate(writes("a"), idempotent=once)) == "a"
        await bench.restart()
        replies = await bench.run(*[Mutate(writes("b"), idempotent=once)] * 3)
        assert [reply.value for reply in replies if isinstance(reply, Done)] == [Earlier("a")] * 3
        await refused(bench.value(Mutate(writes("b"), idempotent=once._replace(args=b"\x01\x80"))), KeyConflict)
        await refused(bench.value(Mutate(writes("b"), idempotent=once._replace(path="n"))), KeyConflict)
        assert await bench.items() == {"a": 1}
        assert await bench.entries(MUTATIONS) == []


# ------------------------------------------------------------------ jobs are canceled


async def a_canceled_job_never_starts(make_store: MakeStore) -> None:
    """True means it will never start, by id or key, also when asked twice; what started or ended is False."""
    async with opened(make_store) as bench:
        bench.host.bodies["m"] = writes("ran")
        ids = await bench.insert(mutation(), mutation(key="k"), action())
        due = await bench.due(MUTATIONS)
        cancels = [CancelJob(ids[0]), CancelJob(ids[0]), CancelJob(key="k"), CancelJob(key="k")]
        replies = await bench.run(*cancels)
        assert replies == [Done(True), Done(True), Done(True), Done(False)]
        assert [entry for _, entry in bench.last.effects.gone] == [unit.entry for unit in due]
        assert bench.last.effects.ended == [unit.entry.seq for unit in due]
        assert await bench.run(*due) == [Done(), Done()]
        (claimed,) = claims(await bench.run(*await bench.due(ACTIONS)))
        assert await bench.value(CancelJob(ids[2])) is False
        assert await bench.value(CompleteJob(claimed, Succeeded(), START_US)) is True
        assert await bench.value(CancelJob(ids[2])) is False
        assert (await bench.states(ids), await bench.items()) == (["canceled", "canceled", "success"], {})


async def a_mutation_may_cancel_one_that_is_due_after_it(make_store: MakeStore) -> None:
    """In one turn, in order: what an earlier unit canceled does not run, be it a mutation or an action."""
    async with opened(make_store) as bench:
        ids = await bench.insert(mutation("stop"), mutation("m", after_us=1), action(after_us=2))

        async def stop(tx: Tx) -> list[bool]:
            assert tx.job_seq is not None
            own = (await tx.due_jobs([tx.job_seq]))[tx.job_seq].id
            return [await tx.cancel_job(CancelJob(which)) for which in (own, *ids[1:])]

        bench.host.bodies.update(stop=stop, m=writes("ran"))
        replies = await bench.run(*await bench.due(MUTATIONS), *await bench.due(ACTIONS))
        assert replies == [Done()] * 3
        assert await bench.states(ids) == ["success", "canceled", "canceled"]
        assert (await bench.job(ids[0])).result == [False, True, True]
        assert await bench.items() == {}


# ------------------------------------------------------------------ jobs run


async def a_due_mutation_runs_once(make_store: MakeStore) -> None:
    """Its writes, its children and its success commit together, once, however often the entry is handed in."""
    async with opened(make_store) as bench:
        bench.host.bodies["m"] = writes("ran", child=mutation("child", after_us=7))
        (job_id,) = await bench.insert(mutation())
        (due,) = await bench.due(MUTATIONS)
        bench.clock.move_to(START_US + SECOND)
        assert await bench.run(due, due) == [Done(), Done()]
        assert bench.last.effects.ended == [due.entry.seq]
        assert [entry.fire_at_us for _, entry in bench.last.effects.pending] == [START_US + 7]
        assert await bench.run(due) == [Done()]
        await bench.restart()
        assert await bench.run(due) == [Done()]
        job = await bench.job(job_id)
        assert (job.state, job.attempt, job.result, job.cause) == ("success", 1, "ran", None)
        assert job.scheduled_at < (job.started_at or job.scheduled_at) <= (job.completed_at or job.scheduled_at)
        assert (await bench.items(), len(await bench.entries(MUTATIONS))) == ({"ran": 1}, 1)


async def a_failed_mutation_leaves_only_its_failure(make_store: MakeStore) -> None:
    """Its writes and children are gone; `retry` makes it pending again, and the next attempt may succeed."""
    async with opened(make_store) as bench:
        bench.host.bodies["m"] = writes("lost", then=Boom, child=mutation("child"))
        (job_id, unknown) = await bench.insert(mutation(), mutation("unknown"))
        due = await bench.due(MUTATIONS)
        assert await bench.run(*due) == [Done(), Done()]
        assert bench.last.effects == Effects(ended=[unit.entry.seq for unit in due])
        job = await bench.job(job_id)
        assert (job.state, job.cause, job.error, job.attempt) == ("failed", "error", "Boom: lost", 1)
        assert (await bench.states([unknown]), await bench.entries(MUTATIONS)) == (["failed"], [])
        bench.host.bodies["m"] = writes("kept")
        assert await bench.value(RetryJob(job_id, START_US + 3)) is True
        assert await bench.value(RetryJob(job_id, START_US + 3)) is False
        assert await bench.entries(MUTATIONS) == [Entry(START_US + 3, due[0].entry.seq)]
        await bench.run(*await bench.due(MUTATIONS))
        job = await bench.job(job_id)
        assert (job.state, job.attempt, job.error, await bench.items()) == ("success", 2, None, {"kept": 1})


async def one_bad_unit_among_many_is_the_only_one_to_fail(make_store: MakeStore) -> None:
    """Be it an error of a body, or one that only the commit can find, the others of its turn commit."""
    async with opened(make_store) as bench:
        bodies = [writes(f"{at:02}", then=Boom if at == 3 else None) for at in range(12)]
        for place in (0, 5, 11):
            bodies[place] = orphans(str(place))
        bench.host.bodies.update({str(at): body for at, body in enumerate(bodies)})
        ids = await bench.insert(*[mutation(str(at)) for at in range(12)])
        live: list[Unit] = [Mutate(writes("live")), Mutate(orphans("live")), InsertJobs([action()])]
        replies = await bench.run(*live, *await bench.due(MUTATIONS))
        assert isinstance(replies[1], Refused)
        assert isinstance(replies[1].error, IntegrityError)
        assert [type(reply) for reply in (*replies[:1], *replies[2:])] == [Done] * 14
        failed = [at for at, state in enumerate(await bench.states(ids)) if state == "failed"]
        assert failed == [0, 3, 5, 11]
        assert list(await bench.items()) == [f"{at:02}" for at in range(12) if at not in failed] + ["live"]
        assert len(await bench.entries(ACTIONS)) == 1


async def a_claim_stands_for_one_attempt_of_this_boot(make_store: MakeStore) -> None:
    """An action is claimed once; only the attempt that holds the claim may complete it, once."""
    async with opened(make_store) as bench:
        ids = await bench.insert(action(), action(after_us=1))
        due = await bench.due(ACTIONS)
        first, second = claims(await bench.run(*due))
        assert [(job.id, job.attempt, job.path, job.kind) for job in (first, second)] == [
            (job_id, 1, "a", "action") for job_id in ids
        ]
        assert await bench.run(*due) == [Done(), Done()]
        assert await bench.states(ids) == ["in_progress"] * 2
        results: list[Outcome] = [
            Succeeded(codec.encode(7)),
            Failed("error", "no", code="NO", data=codec.encode({"a": 1})),
        ]
        for job, outcome in zip((first, second), results, strict=True):
            assert await bench.value(CompleteJob(job._replace(attempt=2), outcome, START_US)) is False
            assert await bench.value(CompleteJob(job, outcome, START_US + 5)) is True
            assert bench.last.effects == Effects(ended=[job.seq])
            assert await bench.value(CompleteJob(job, Succeeded(), START_US)) is False
        good, bad = [await bench.job(job_id) for job_id in ids]
        assert (good.state, good.result, bad.state, bad.cause, bad.error) == ("success", 7, "failed", "error", "no")
        assert (bad.error_code, bad.error_data) == ("NO", {"a": 1})


async def a_due_action_is_claimed_once_in_a_turn(make_store: MakeStore) -> None:
    """The same entry twice in one turn is one claim."""
    async with opened(make_store) as bench:
        await bench.insert(action())
        (due,) = await bench.due(ACTIONS)
        assert len(claims(await bench.run(due, due))) == 1


# ------------------------------------------------------------------ what the index and the readers rely on


async def a_refill_gives_what_follows_the_horizon(make_store: MakeStore) -> None:
    """Pending entries of that queue strictly after it, in order, this turn's included, and whether that is all."""
    async with opened(make_store) as bench:
        jobs = [mutation(after_us=at) for at in (3, 1, 2, 1, 0)]
        ids = await bench.insert(*jobs, action(after_us=1))
        everything = await bench.entries(MUTATIONS)
        assert [entry.fire_at_us - START_US for entry in everything] == [0, 1, 1, 2, 3]
        assert everything == sorted(everything)
        for at, after in enumerate([NOTHING, *everything]):
            for count in (1, 2, 5, 6):
                asked = [Refill(MUTATIONS, after, count), Refill("none", after, count)]
                await bench.run(refills=asked)
                expected = everything[at : at + count]
                assert bench.last.refills == [(asked[0], expected, len(expected) < count), (asked[1], [], True)]
        await bench.run(CancelJob(ids[4]), InsertJobs([mutation(after_us=9)]), refills=[Refill(MUTATIONS, NOTHING, 10)])
        ((_, entries, _),) = bench.last.refills
        assert [entry.fire_at_us - START_US for entry in entries] == [1, 1, 2, 3, 9]


async def a_query_sees_one_moment(make_store: MakeStore) -> None:
    """However many statements it runs while turns commit beside it, it sees all of a mutation or nothing."""
    async with opened(make_store) as bench:
        await bench.run(Mutate(writes("a")), Mutate(writes("b")))

        async def move(tx: Tx) -> None:
            await tx.execute("UPDATE items SET amount = amount - 1 WHERE name = ?", ("a",))
            await tx.execute("UPDATE items SET amount = amount + 1 WHERE name = ?", ("b",))

        async def look(snapshot: Snapshot) -> list[dict[str, int]]:
            return [await read_items(snapshot) for _ in range(5)]

        async def turns() -> None:
            for _ in range(30):
                await bench.mutate(move)

        committing = asyncio.ensure_future(turns())
        looks = await asyncio.gather(*(bench.ask(look) for _ in range(30)))
        await committing
        for seen in looks:
            assert all(items == seen[0] for items in seen)
            assert sum(seen[0].values()) == 2
        assert await bench.items() == {"a": -29, "b": 31}


# ------------------------------------------------------------------ after a crash, or an error


async def a_restart_interrupts_actions_and_nothing_else(make_store: MakeStore) -> None:
    """Claims of an earlier boot are failed, interrupted, and can't be completed any more; pending jobs stay."""
    async with opened(make_store) as bench:
        ids = await bench.insert(action(), action(after_us=1), mutation())
        (claimed,) = claims(await bench.run((await bench.due(ACTIONS))[0]))
        pending = [await bench.entries(queue) for queue in (ACTIONS, MUTATIONS)]
        await bench.restart()
        assert await bench.states(ids) == ["failed", "pending", "pending"]
        assert ((await bench.job(ids[0])).cause, (await bench.job(ids[0])).attempt) == ("interrupted", 1)
        assert await bench.value(CompleteJob(claimed, Succeeded(), START_US)) is False
        assert [await bench.entries(queue) for queue in (ACTIONS, MUTATIONS)] == pending


async def a_reopened_store_releases_what_never_started(make_store: MakeStore) -> None:
    """After `reopen`, claims that run here stand, and the others are pending again as if never claimed."""
    async with opened(make_store) as bench:
        ids = await bench.insert(action(), action(after_us=1))
        due = await bench.due(ACTIONS)
        runs, waits = claims(await bench.run(*due))
        await bench.store.reopen([(runs.seq, runs.attempt), (waits.seq, waits.attempt + 1)])
        assert await bench.states(ids) == ["in_progress", "pending"]
        assert await bench.value(CompleteJob(waits, Succeeded(), START_US)) is False
        assert await bench.value(CompleteJob(runs, Succeeded(), START_US)) is True
        assert (await bench.job(ids[1])).attempt == 0
        assert await bench.entries(ACTIONS) == [due[1].entry]
        (again,) = claims(await bench.run(*due))
        assert (again.id, again.attempt) == (ids[1], 1)
        assert sorted(await bench.insert(mutation())) > ids


CASES: Final[tuple[Case, ...]] = (
    inserted_jobs_have_ids_in_order_of_acceptance, ids_are_never_given_twice, an_unknown_id_finds_and_cancels_nothing,
    a_key_stands_for_one_unfinished_job, an_idempotency_key_stands_for_one_job_for_ever,
    a_live_mutation_with_a_key_takes_effect_once, a_canceled_job_never_starts,
    a_mutation_may_cancel_one_that_is_due_after_it, a_due_mutation_runs_once,
    a_failed_mutation_leaves_only_its_failure, one_bad_unit_among_many_is_the_only_one_to_fail,
    a_claim_stands_for_one_attempt_of_this_boot, a_due_action_is_claimed_once_in_a_turn,
    a_refill_gives_what_follows_the_horizon, a_query_sees_one_moment, a_restart_interrupts_actions_and_nothing_else,
    a_reopened_store_releases_what_never_started, *steering_cases.CASES, *cron_cases.CASES,
    *cron_change_cases.CASES, *operator_cases.CASES,
)  # fmt: skip
