"""Lanes in the file: one head, the right one, whatever touches the lane; and settling looks at no more than it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.model import ACTIONS, MUTATIONS, Again, Failed, Succeeded
from actor_scheduler.store.base import (
    CancelJob,
    CompleteJob,
    DropJob,
    InsertJobs,
    Mutate,
    Refused,
    RetryJob,
    RunDue,
    Tx,
)
from actor_scheduler.store.sqlite import lanes, turn
from actor_scheduler.testing import conformance
from actor_scheduler.testing.bench import Bench, action, claims, mutation, orphans, writes
from actor_scheduler.testing.clock import START_US
from tests.store.test_routing import raw, steps

FAILED = Failed("error", "x")


async def heads(bench: Bench) -> list[str]:
    """Return the ids of the jobs that stand in a queue, in order."""
    rows = raw(bench).execute(
        "SELECT printf('%016x%016x', seq, nonce) FROM main._scheduler_jobs WHERE state = 'pending' AND queue < '~'"
        " ORDER BY fire_at_us, seq /* test */"
    )
    return [job_id for (job_id,) in rows]


async def begun(bench: Bench, *queues: str) -> list[Any]:
    """Claim what is due in these queues."""
    return claims(await bench.run(*[unit for queue in queues for unit in await bench.due(queue)]))


async def ended(bench: Bench, job: Any, outcome: Any = None) -> None:
    await bench.run(CompleteJob(job, outcome or Succeeded(), bench.clock.now_us()))


async def test_the_earliest_of_a_lane_is_its_head(open_bench: Any) -> None:
    """Fire time decides, then acceptance; a job without a lane, or of another lane, is not held up."""
    async with open_bench() as bench:
        late, early, _tie, free, other = await bench.insert(
            action(lane="l", after_us=9), action(lane="l", after_us=5), action(lane="l", after_us=5), action(after_us=7),
            mutation(lane="m", after_us=8),
        )  # fmt: skip
        assert await heads(bench) == [early, free, other]
        (earlier,) = await bench.insert(mutation(lane="l", after_us=1))
        assert await heads(bench) == [earlier, free, other]
        assert [(queue, entry.seq) for queue, entry in bench.last.effects.gone] == [(ACTIONS, 2)]
        await bench.value(CancelJob(earlier))
        await bench.value(CancelJob(early))
        await bench.value(CancelJob(_tie))
        assert await heads(bench) == [free, other, late]


@pytest.mark.parametrize("how", ["success", "failed", "canceled", "unread", "replaced"])
async def test_whatever_ends_the_head_lets_the_next_one_in(how: str, open_bench: Any) -> None:
    """Done, failed, canceled, replaced, or failed without having been read: the lane must go on."""
    async with open_bench(*conformance.SCHEMA) as bench:
        bench.host.bodies["m"] = orphans("x") if how == "unread" else writes("x")
        head, following = await bench.insert(mutation("m", lane="l", key="k"), action(lane="l"))
        assert await heads(bench) == [head]
        match how:
            case "canceled":
                await bench.value(CancelJob(key="k"))
            case "replaced":
                (instead,) = await bench.insert(mutation("m", key="k", on_conflict="replace"))
                assert await heads(bench) == [following, instead]
                return
            case "failed":
                bench.host.bodies.clear()
                await bench.run(*await bench.due(MUTATIONS))
            case _:
                await bench.run(*await bench.due(MUTATIONS))
        assert (await bench.job(head)).state == {"unread": "failed"}.get(how, how)
        assert await heads(bench) == [following]
        (job,) = await begun(bench, ACTIONS)
        assert job.id == following


async def test_a_retrying_job_holds_its_lane(open_bench: Any) -> None:
    """Between two attempts nobody may pass, however early: neither an earlier job nor one that failed before."""
    async with open_bench() as bench:
        first, second, third = await bench.insert(*(action(lane="l", after_us=at) for at in range(3)))
        (job,) = await begun(bench, ACTIONS)
        await ended(bench, job, FAILED)
        (job,) = await begun(bench, ACTIONS)
        assert job.id == second
        await ended(bench, job, Again(FAILED, 1_000_000))
        assert await heads(bench) == [second]
        await bench.insert(action(lane="l", after_us=-10))
        assert await bench.value(RetryJob(first, START_US)) is True
        assert await heads(bench) == [second]
        await bench.restart()
        (job,) = await begun(bench, ACTIONS)
        assert job.id == second
        await bench.value(CancelJob(third))
        assert await heads(bench) == []


async def test_what_is_tried_again_by_hand_never_runs_beside_what_runs(open_bench: Any) -> None:
    """A failed job that is due before the one that runs, by the clock or by acceptance, must wait for its end."""
    async with open_bench() as bench:
        first, second, third = await bench.insert(*(action(lane="l") for _ in range(3)))
        (job,) = await begun(bench, ACTIONS)
        await ended(bench, job, FAILED)
        (job,) = await begun(bench, ACTIONS)
        assert job.id == second
        assert await bench.value(RetryJob(first, START_US)) is True
        assert await heads(bench) == []
        await ended(bench, job)
        assert await heads(bench) == [first]
        (job,) = await begun(bench, ACTIONS)
        assert (job.id, job.attempt) == (first, 2)
        await ended(bench, job)
        assert await heads(bench) == [third]


async def test_a_lane_goes_on_after_a_crash(open_bench: Any) -> None:
    """An interrupted head without retries fails and lets the next one in; with retries it keeps its place."""
    async with open_bench() as bench:
        plain, after_plain, again, after_again = await bench.insert(
            action("a", lane="l"), action("a", lane="l"), action("b", lane="m"), action("b", lane="m")
        )
        bench.host.again = {"b": 0}
        assert {job.id for job in await begun(bench, ACTIONS)} == {plain, again}
        await bench.restart()
        assert await bench.states([plain, again]) == ["failed", "pending"]
        assert await heads(bench) == [after_plain, again]
        for _ in range(2):
            assert after_again not in {job.id for job in await begun(bench, ACTIONS)}
            await bench.restart()
        assert (await bench.job(again)).cause == "crash_loop"
        assert await heads(bench) == [after_again]


async def test_keys_of_a_job_in_a_lane_hold_while_it_is_parked(open_bench: Any) -> None:
    """A parked job is found by its key and by its idempotency key, and can be replaced and canceled there."""
    async with open_bench() as bench:
        head, parked = await bench.insert(action(lane="l"), action(lane="l", key="k", idempotency_key="i", after_us=5))
        assert await bench.insert(action("other", key="k", on_conflict="keep")) == [parked]
        assert await bench.insert(action(lane="l", idempotency_key="i", after_us=5)) == [parked]
        (instead,) = await bench.insert(mutation(lane="l", key="k", on_conflict="replace", after_us=-5))
        assert await bench.states([head, parked, instead]) == ["pending", "canceled", "pending"]
        assert await heads(bench) == [instead]
        assert await bench.value(CancelJob(key="k")) is True
        assert await heads(bench) == [head]
        assert await bench.value(DropJob(parked)) is True
        assert await heads(bench) == [head]


async def test_a_mutation_that_rolls_back_leaves_its_lane_as_it_was(open_bench: Any) -> None:
    """Whether it inserted before the head, canceled the head, or both: nothing of it may stay."""
    async with open_bench(*conformance.SCHEMA) as bench:
        head, following = await bench.insert(action(lane="l"), action(lane="l", after_us=5))

        async def fails(tx: Tx) -> None:
            await tx.insert_job(action(lane="l", after_us=-5))
            assert await tx.cancel_job(CancelJob(head)) is True
            assert await tx.cancel_job(CancelJob(following)) is True
            raise ValueError

        (reply,) = await bench.run(Mutate(fails))
        assert isinstance(reply, Refused)
        assert await heads(bench) == [head]
        assert bench.last.effects.pending == bench.last.effects.gone == bench.last.effects.ended == []
        (job,) = await begun(bench, ACTIONS)
        assert job.id == head


async def test_a_lane_runs_its_mutations_and_actions_one_after_the_other(open_bench: Any) -> None:
    """Kinds, priorities and functions do not matter inside a lane: it is one line."""
    async with open_bench(*conformance.SCHEMA) as bench:
        for name in ("m0", "m2"):
            bench.host.bodies[name] = writes(name)
        ids = await bench.insert(
            mutation("m0", lane="l"), action("a1", lane="l"), mutation("m2", lane="l", priority=9), action("a3", lane="l"),
        )  # fmt: skip
        for at, queue in enumerate((MUTATIONS, ACTIONS, "mutation#9", ACTIONS)):
            assert await heads(bench) == [ids[at]]
            for job in await begun(bench, queue):
                assert await heads(bench) == []
                await ended(bench, job)
        assert await bench.states(ids) == ["success"] * 4


async def test_a_head_parked_and_back_in_one_turn_of_several_commits(
    open_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that falls apart commits in parts: the head that is parked in one and back in the next is pending, once."""
    monkeypatch.setattr(turn, "TURN_US_MAX", 10**9)  # on a busy machine its time would be over before its last unit
    async with open_bench(*conformance.SCHEMA) as bench:
        (head,) = await bench.insert(action(lane="l", after_us=5))
        (unit,) = await bench.due(ACTIONS)
        result = await bench.store.apply(
            [InsertJobs([action(lane="l", key="k")]), Mutate(orphans("x")), CancelJob(key="k")], []
        )
        assert await heads(bench) == [head]
        assert result.effects.pending == [(ACTIONS, unit.entry)]
        assert (ACTIONS, unit.entry) in result.effects.gone
        result = await bench.store.apply(
            [InsertJobs([action(lane="l", key="k")]), Mutate(orphans("x")), RunDue(ACTIONS, unit.entry)], []
        )
        assert claims(result.replies) == []
        assert unit.entry not in [entry for _, entry in result.effects.pending]
        assert (ACTIONS, unit.entry) in result.effects.gone


async def test_a_job_that_came_and_went_in_one_turn_is_not_pending(open_bench: Any) -> None:
    """What a turn says is pending must be so at its end."""
    async with open_bench() as bench:
        result = await bench.store.apply([InsertJobs([action(key="k")]), CancelJob(key="k")], [])
        assert result.effects.pending == []
        assert await heads(bench) == []


# ------------------------------------------------------------------ how much it costs


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (lanes._HEAD, "_scheduler_jobs_lane (lane=?)"),
        (lanes._QUEUED, "_scheduler_jobs_lane_head (lane=?)"),
        (lanes._RUNNING, "_scheduler_jobs_running"),
        (lanes._ANY, "_scheduler_jobs_lane"),
        (lanes._ALL, "_scheduler_jobs_lane (lane>?)"),
    ],
)
async def test_every_statement_of_lanes_goes_through_its_index(statement: str, index: str, open_bench: Any) -> None:
    """None may scan the table of jobs, none may sort."""
    async with open_bench() as bench:
        values = ("l",) if "?" in statement else ()
        plan = "\n".join(row[3] for row in raw(bench).execute(f"EXPLAIN QUERY PLAN {statement}", values))
        assert index in plan
        assert "TEMP B-TREE" not in plan
        assert "SCAN main._scheduler_jobs\n" not in plan + "\n"


async def test_settling_a_lane_does_not_depend_on_how_many_wait(open_bench: Any, tmp_path: Path) -> None:
    """Inserting into, claiming, ending and canceling in a lane must cost the same with 50,000 waiting as with five."""
    cost = {}
    for waiting in (5, 50_000):
        async with open_bench(path=tmp_path / f"{waiting}.db", synchronous="OFF") as bench:
            done = 0
            while done < waiting:
                count = min(waiting - done, 10_000)
                await bench.store.apply([InsertJobs([action(lane="l", after_us=100 + done)] * count)], [])
                done += count
            with steps(bench, every=10) as count_of:
                ids = await bench.insert(action(lane="l"), action(lane="l", after_us=1))
                (job,) = await begun(bench, ACTIONS)
                await ended(bench, job)
                await bench.value(CancelJob(ids[1]))
            cost[waiting] = count_of[0]
            assert len(await heads(bench)) == 1
    assert cost[50_000] < 2 * cost[5]
