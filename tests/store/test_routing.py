"""Where pending jobs wait after a release: their functions' limits may be others, and a file may hold anything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from actor_scheduler.model import ACTIONS, MUTATIONS, Again, Failed, NewJob
from actor_scheduler.queues import PLAIN, Rate, Routing
from actor_scheduler.store.base import CompleteJob, InsertJobs, Refill, RetryJob
from actor_scheduler.store.sqlite.job_rows import window
from actor_scheduler.testing.bench import NOTHING, Bench, action, claims, mutation
from actor_scheduler.testing.clock import START_US

SECOND = 1_000_000
LIMITED = Routing(
    {"a": "fn:a", "old-a": "fn:a", "p": "pool:mail", "r": "rate:r"},
    {"pool:mail": ("pool:mail",), "fn:a": ("fn:a",), "rate:r": ("rate:r",)},
    {"pool:mail": 2, "fn:a": 1, "rate:r": Rate(3, 60 * SECOND)},
)


def raw(bench: Bench) -> Any:
    """Return the writer's own connection."""
    return bench.store._connection.raw  # type: ignore[attr-defined]


def queues(bench: Bench) -> dict[str, int]:
    """Return how many jobs wait in each queue."""
    rows = raw(bench).execute(
        "SELECT CAST(queue AS BLOB), count(*) FROM main._scheduler_jobs WHERE state = 'pending' GROUP BY 1 /* test */"
    )
    return {queue.decode("utf-8", "replace"): count for queue, count in rows}


async def reopened(bench: Bench, routing: Routing) -> Any:
    """Boot again as a release with these limits; return what the store found."""
    await bench.store.close(checkpoint=False)
    bench.host.routing = routing
    bench.store = bench._make_store(bench.host, bench.clock)
    return await bench.store.open()


@contextlib.contextmanager
def steps(bench: Bench, *, every: int = 1000) -> Iterator[list[int]]:
    """Count the steps that SQLite takes meanwhile, by thousands."""
    count = [0]

    def tick() -> int:
        count[0] += 1
        return 0

    raw(bench).set_progress_handler(tick, every)
    try:
        yield count
    finally:
        raw(bench).set_progress_handler(None, 0)


async def test_limits_that_come_and_go_move_what_waits(open_bench: Any) -> None:
    """A release with new limits must find every job in its new queue, with its priority; the next one back again."""
    async with open_bench() as bench:
        await bench.insert(
            action("a"), action("a", priority=7), action("old-a"), action("p", priority=-3), action("r"), action("x"),
            mutation("a", priority=7), action("x", lane="l"), action("a", lane="l"), action("p", lane="l"),
        )  # fmt: skip
        before = queues(bench)
        found = await reopened(bench, LIMITED)
        assert queues(bench) == {
            "fn:a": 2, "fn:a#7": 1, "pool:mail#-3": 1, "rate:r": 1, ACTIONS: 2, "mutation#7": 1, "~fn:a": 1,
            "~pool:mail": 1,
        }  # fmt: skip
        assert set(found.queues) == {queue for queue in queues(bench) if not queue.startswith("~")}
        found = await reopened(bench, PLAIN)
        assert queues(bench) == before
        assert set(found.queues) == {queue for queue in before if not queue.startswith("~")}


async def test_a_pool_that_is_renamed_takes_its_jobs_along(open_bench: Any) -> None:
    """Jobs of a pool that is gone must go where their function waits now, also those parked in lanes."""
    renamed = Routing({"p": "pool:post"}, {"pool:post": ("pool:post",)}, {"pool:post": 1})
    async with open_bench() as bench:
        await reopened(bench, LIMITED)
        jobs = [action("p"), action("p", lane="l"), action("p", lane="l", priority=2)]
        await bench.insert(*(job._replace(queue=LIMITED.queue("p", "action", job.priority)) for job in jobs))
        assert queues(bench) == {"pool:mail": 2, "~pool:mail#2": 1}
        await reopened(bench, renamed)
        assert queues(bench) == {"pool:post": 2, "~pool:post#2": 1}


async def test_the_same_release_moves_nothing(open_bench: Any) -> None:
    """A boot with the limits it knows must not look at the jobs at all."""
    async with open_bench() as bench:
        await reopened(bench, LIMITED)
        await bench.insert(*(action("a")._replace(queue="fn:a") for _ in range(20_000)))
        found = await reopened(bench, LIMITED)
        assert found.queues == ["fn:a"]
        from actor_scheduler.store.sqlite.recovery import _in_transaction, _reroute

        with steps(bench) as count:
            _in_transaction(raw(bench), lambda: _reroute(raw(bench), LIMITED))
        assert count[0] < 5


@pytest.mark.parametrize(
    ("queue", "right"),
    [
        ("'nobody serves this'", ACTIONS),
        ("'pool:gone#5'", ACTIONS),
        ("'fn:gone:gone'", ACTIONS),
        ("''", ACTIONS),
        ("'action#x'", ACTIONS),
        ("'~~action'", ACTIONS),
        ("'~'", ACTIONS),
        ("'\x7f'", ACTIONS),
        ("'é'", ACTIONS),
        ("CAST(x'ff' AS TEXT)", ACTIONS),
        ("CAST(x'7eff' AS TEXT)", ACTIONS),
        ("CAST(x'616374696f6efe' AS TEXT)", ACTIONS),
    ],
)
async def test_a_queue_that_no_release_ever_made_loses_no_job(queue: str, right: str, open_bench: Any) -> None:
    """Whatever a damaged file says where a job waits, the boot must succeed, and the job must be found."""
    async with open_bench() as bench:
        ids = await bench.insert(action("x"), mutation("x"), action("x"))
        raw(bench).execute(f"UPDATE main._scheduler_jobs SET queue = {queue} WHERE seq < 3 /* test */")
        found = await reopened(bench, LIMITED)
        assert set(found.queues) == {right, MUTATIONS}
        assert len(await bench.entries(right)) == 2
        assert len(await bench.entries(MUTATIONS)) == 1
        claimed = claims(await bench.run(*await bench.due(right)))
        assert [job.id for job in claimed] == [ids[0], ids[2]]


async def test_a_damaged_path_waits_where_it_fails(open_bench: Any) -> None:
    """A job whose path is not text any more must wait in a queue that is served: there it fails, and is seen."""
    async with open_bench() as bench:
        await bench.insert(action("a"), mutation("a"), action("a"))
        raw(bench).execute(
            "UPDATE main._scheduler_jobs SET queue = 'gone', path = CAST(x'ff' AS TEXT) WHERE seq < 3 /* test */"
        )
        await reopened(bench, LIMITED)
        assert queues(bench) == {ACTIONS: 1, MUTATIONS: 1, "fn:a": 1}


async def test_a_new_release_moves_100_000_jobs_of_200_functions_in_one_pass(open_bench: Any) -> None:
    """The work must grow with the jobs, not with the jobs times the functions."""
    count, functions = 100_000, 200
    bases = {f"f{at}": f"fn:f{at}" for at in range(functions)}
    routing = Routing(bases, {base: (base,) for base in bases.values()}, dict.fromkeys(bases.values(), 1))
    async with open_bench(synchronous="OFF") as bench:
        plain = [action(f"f{at % functions}") for at in range(count)]
        await bench.store.apply([InsertJobs(plain)], [])
        from actor_scheduler.store.sqlite.recovery import _in_transaction, _reroute

        with steps(bench) as taken:
            _in_transaction(raw(bench), lambda: _reroute(raw(bench), routing))
        assert queues(bench) == dict.fromkeys(bases.values(), count // functions)
        assert taken[0] * 1000 < 120 * count


def rated(**options: Any) -> NewJob:
    """Return a job of the function with a rate."""
    return action("r", **options)._replace(queue=LIMITED.queue("r", "action", options.get("priority", 0)))


async def test_the_starts_of_a_rate_are_found_after_a_boot(open_bench: Any) -> None:
    """What a rate has let through in its period counts after a restart: any priority, ended or not; nothing older."""
    async with open_bench() as bench:
        await reopened(bench, LIMITED)
        await bench.insert(rated(), rated(priority=9), rated(priority=-9), rated())
        started = []
        for queue in ("rate:r", "rate:r#9", "rate:r#-9"):
            (unit, *_) = await bench.due(queue)
            started.append(bench.clock.now_us())
            (job,) = claims(await bench.run(unit))
            await bench.run(CompleteJob(job, Failed("error", "x"), bench.clock.now_us()))
            bench.clock.move_to(bench.clock.now_us() + 20 * SECOND)
        assert (await reopened(bench, LIMITED)).starts == {"rate:r": started[1:]}
        bench.clock.step(-3600 * SECOND)
        assert (await reopened(bench, LIMITED)).starts == {"rate:r": started}


async def test_every_attempt_of_a_job_counts_as_a_start(open_bench: Any) -> None:
    """A job that was tried three times has started three times, whatever its row says of the last."""
    async with open_bench() as bench:
        await reopened(bench, LIMITED)
        bench.host.again = {"r": 10_000}
        await bench.insert(rated())
        started = []
        for _ in range(3):
            started.append(bench.clock.now_us())
            (job,) = claims(await bench.run(*await bench.due("rate:r")))
            await bench.run(CompleteJob(job, Again(Failed("error", "x"), 10_000), bench.clock.now_us()))
            bench.clock.move_to(bench.clock.now_us() + SECOND)
        assert (await reopened(bench, LIMITED)).starts == {"rate:r": started}


@pytest.mark.parametrize("lane", [None, "l"])
async def test_a_retry_by_hand_forgets_no_start(lane: str | None, open_bench: Any) -> None:
    """A failed job that is pending again has started all the same, wherever it waits now."""
    async with open_bench() as bench:
        await reopened(bench, LIMITED)
        options = {"lane": lane} if lane is not None else {}
        first, second = await bench.insert(rated(**options), rated(**options))
        for _ in (first, second):
            unit = (await bench.due("rate:r"))[0]
            (job,) = claims(await bench.run(unit))
            await bench.run(CompleteJob(job, Failed("error", "x"), bench.clock.now_us()))
        for job_id in (first, second):
            assert await bench.value(RetryJob(job_id, bench.clock.now_us())) is True
        assert (await reopened(bench, LIMITED)).starts == {"rate:r": [bench.clock.now_us()] * 2}


async def test_a_window_is_read_through_its_index(open_bench: Any) -> None:
    """Reading the next thousand of a queue must not depend on how many wait there, or elsewhere."""
    async with open_bench(synchronous="OFF") as bench:
        await bench.store.apply([InsertJobs([action("x", after_us=at) for at in range(5_000)])], [])
        result = await bench.store.apply([], [Refill(ACTIONS, NOTHING, 10)])
        ((_, entries, complete),) = result.refills
        assert (len(entries), complete) == (10, False)
        with steps(bench) as count:
            assert len(window(raw(bench), ACTIONS, entries[-1], 1000)) == 1000
        assert count[0] < 20
        assert entries[-1].fire_at_us == START_US + 9
