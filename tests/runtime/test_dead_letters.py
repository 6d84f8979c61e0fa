"""Dead letters and old jobs: retried and dropped one by one or many at once, and forgotten in their time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.limits import PRUNE_MAX
from runtime import ActionCtx, InvalidArgs, KeyConflict, MutationCtx, Namespace, Retry
from runtime.testing import START

if TYPE_CHECKING:
    from actor_scheduler.model import Job
    from runtime.testing import Harness
    from tests.runtime.conftest import Start

DAY = timedelta(days=1)


class Switch:
    """Functions that fail while they are told to."""

    def __init__(self) -> None:
        self.ns: Namespace[Any] = Namespace("s")
        self.fails = True
        self.ran: list[int] = []

        def run(n: int) -> int:
            self.ran.append(n)
            if self.fails:
                raise LookupError(str(n))
            return n

        @self.ns.mutation
        async def plain(ctx: MutationCtx, *, n: int = 0) -> int:
            return run(n)

        @self.ns.mutation(retry=Retry(2, jitter=0, base=1))
        async def twice(ctx: MutationCtx, *, n: int = 0) -> int:
            return run(n)

        @self.ns.action(retry=Retry(2, jitter=0, base=1))
        async def act(ctx: ActionCtx, *, n: int = 0) -> int:
            return run(n)

        @self.ns.mutation
        async def sweep(ctx: MutationCtx, *, how: str, fails: bool = False) -> int:
            jobs = ctx.scheduler.list(state="failed", fn="s:plain")
            count = await (jobs.retry() if how == "retry" else jobs.drop())
            if fails:
                raise ValueError
            return count

        @self.ns.mutation
        async def one(ctx: MutationCtx, *, how: str, job_id: str) -> bool:
            return await (ctx.scheduler.retry if how == "retry" else ctx.scheduler.drop)(job_id)

        @self.ns.action
        async def sweep_live(ctx: ActionCtx, *, how: str) -> int:
            jobs = ctx.scheduler.list(state="failed", fn="s:plain")
            return await (jobs.retry() if how == "retry" else jobs.drop())

        @self.ns.mutation(keep=timedelta(minutes=5))
        async def brief(ctx: MutationCtx) -> None:
            pass

        @self.ns.action(keep=timedelta(0))
        async def gone(ctx: ActionCtx) -> None:
            pass

        @self.ns.mutation(keep=timedelta.max)
        async def kept(ctx: MutationCtx) -> None:
            pass

    async def dead(self, h: Harness[Any], count: int, path: str = "s:plain", **options: Any) -> list[str]:
        """Make dead letters."""
        fn: Any = self.ns.functions[path]
        ids = list(await h.scheduler.run_many(fn.bind(n=n).after(0, **options) for n in range(count)))
        await h.advance(10)
        return ids


async def get(h: Harness[Any], job_id: str) -> Job:
    """Return a job that exists."""
    job = await h.scheduler.get(job_id)
    assert job is not None
    return job


# ------------------------------------------------------------------ one


@pytest.mark.parametrize("path", ["s:plain", "s:twice", "s:act"])
async def test_a_retry_is_one_more_attempt(start: Start, path: str) -> None:
    """Also for an exhausted policy: due now, with the next number, and failed again when it fails; or done at last."""
    switch = Switch()
    h = await start(switch.ns)
    (job_id,) = await switch.dead(h, 1, path)
    first = await get(h, job_id)
    assert first.state == "failed"
    assert await h.scheduler.retry(job_id) is True
    (again,) = await h.advance(10)
    assert (again.state, again.attempt, again.cause) == ("failed", first.attempt + 1, "error")
    switch.fails = False
    assert await h.scheduler.retry(job_id) is True
    (done,) = await h.settle()
    assert (done.state, done.attempt, done.result) == ("success", first.attempt + 2, 0)
    assert (done.cause, done.error, done.traceback) == (None, None, None)
    assert (done.scheduled_at, done.created_at, done.occurrence_id) == (START, START, job_id)
    assert [at.attempt for at in await h.scheduler.failed_attempts(job_id)] == list(range(1, done.attempt))
    assert await h.scheduler.retry(job_id) is False


async def test_only_a_failed_job_is_retried_and_only_an_ended_one_dropped(start: Start) -> None:
    """False for any other state, on the app and in a mutation; nothing is changed."""
    switch = Switch()
    switch.fails = False
    h = await start(switch.ns)

    @switch.ns.action
    async def sleeps(ctx: ActionCtx) -> None:
        await ctx.sleep(60)

    running = await h.scheduler.run_now("s:sleeps")
    await h.settle()
    done = await h.scheduler.run_now("s:plain")
    pending, canceled = [await h.scheduler.run_after(60, "s:plain") for _ in range(2)]
    await h.scheduler.cancel(canceled)
    await h.settle()
    for job_id, dropped in ((pending, False), (running, False), ("0" * 32, False), (done, True), (canceled, True)):
        assert await h.scheduler.retry(job_id) is False
        assert await h.call("s:one", {"how": "retry", "job_id": job_id}) is False
        assert await h.call("s:one", {"how": "drop", "job_id": job_id}) is dropped
        assert await h.scheduler.drop(job_id) is False
        assert (await h.scheduler.get(job_id) is None) is (dropped or job_id == "0" * 32)


async def test_dropping_a_parent_leaves_its_children(start: Start) -> None:
    """They keep its id, run, and can be retried; its record and its idempotency key are gone with it."""
    switch = Switch()
    h = await start(switch.ns)

    @switch.ns.action(retry=Retry(2, jitter=0, base=1))
    async def parent(ctx: ActionCtx) -> None:
        if ctx.invoker.attempt == 1:  # type: ignore[union-attr]
            await ctx.scheduler.run_after(60, "s:plain")
            raise LookupError

    job_id = await h.scheduler.run_now("s:parent", idempotency_key="once")
    await h.advance(5)
    assert await h.scheduler.drop(job_id) is True
    assert await h.scheduler.failed_attempts(job_id) == []
    assert await h.scheduler.run_after(600, "s:parent", idempotency_key="once") != job_id
    (child,) = await h.advance(60)
    assert (child.parent_id, child.state) == (job_id, "failed")
    switch.fails = False
    assert await h.scheduler.retry(child.id)
    assert [job.state for job in await h.settle()] == ["success"]


# ------------------------------------------------------------------ many


@pytest.mark.parametrize(("where", "how"), [("app", "retry"), ("mutation", "drop"), ("action", "retry")])
async def test_many_at_once(start: Start, where: str, how: str) -> None:
    """More than a page, from anywhere; of others nothing is touched, and a second sweep finds nothing."""
    switch = Switch()
    h = await start(switch.ns)
    ids = await switch.dead(h, 1_002)
    others = await switch.dead(h, 3, "s:twice")
    switch.fails = False
    switch.ran.clear()

    async def sweep() -> Any:
        if where == "app":
            jobs = h.scheduler.list(state="failed", fn="s:plain")
            return await (jobs.retry() if how == "retry" else jobs.drop())
        return await h.call("s:sweep" if where == "mutation" else "s:sweep_live", {"how": how})

    assert await sweep() == len(ids)
    await h.advance(60)
    assert await sweep() == 0
    assert await h.scheduler.list(fn="s:plain").count() == (len(ids) if how == "retry" else 0)
    assert await h.scheduler.list(fn="s:plain", state="success").count() == (len(ids) if how == "retry" else 0)
    assert sorted(switch.ran) == (list(range(len(ids))) if how == "retry" else [])
    assert [(await get(h, job_id)).state for job_id in others] == ["failed"] * 3


@pytest.mark.parametrize("how", ["retry", "drop"])
async def test_a_sweep_in_a_mutation_rolls_back_with_it(start: Start, how: str) -> None:
    """All of it: the dead letters stand as they were, with their record, and none of them runs."""
    switch = Switch()
    h = await start(switch.ns)
    ids = await switch.dead(h, 5)
    before = [await get(h, job_id) for job_id in ids]
    switch.ran.clear()
    with pytest.raises(ValueError):
        await h.call("s:sweep", {"how": how, "fails": True})
    await h.advance(60)
    assert [await get(h, job_id) for job_id in ids] == before
    assert [await h.scheduler.failed_attempts(job_id) for job_id in ids] == [[]] * 5
    assert switch.ran == []


async def test_a_sweep_takes_what_its_filter_says(start: Start) -> None:
    """By function, state, cause, key and lane; with no filter at all it takes whatever it can."""
    switch = Switch()
    h = await start(switch.ns)
    keyed = await h.scheduler.run_now("s:plain", key="k")
    laned = await switch.dead(h, 3, lane="l")
    twice = await switch.dead(h, 2, "s:twice")
    broken = await h.scheduler.run_now("s:plain", retry=1)
    waiting = await h.scheduler.run_after(1000, "s:plain")
    await h.settle()
    switch.fails = False
    lists = h.scheduler.list
    assert [
        await lists(key="k").retry(), await lists(lane="l").retry(), await lists(fn="s:twice").retry(),
        await lists(cause="timeout").retry(), await lists(state="pending").retry(), await lists(state="success").retry(),
    ] == [1, 3, 2, 0, 0, 0]  # fmt: skip
    await h.advance(10)
    assert {(await get(h, job_id)).state for job_id in (keyed, *laned, *twice)} == {"success"}
    assert await lists(cause="error").drop() == 1
    assert await h.scheduler.get(broken) is None
    assert await lists(state="pending").drop() == 0
    assert await lists(lane="l").drop() == 3
    assert await lists().drop() == 3
    assert [job.id async for job in lists()] == [waiting]


async def test_a_key_that_is_taken_meanwhile_keeps_its_job_dead(start: Start) -> None:
    """Of two dead letters under one key a sweep takes one; the other stays, unharmed, and is told by `retry`."""
    switch = Switch()
    h = await start(switch.ns)
    first = await h.scheduler.run_now("s:plain", key="k")
    await h.settle()
    second = await h.scheduler.run_now("s:plain", key="k")
    free = await h.scheduler.run_now("s:plain", key="other")
    await h.settle()
    await h.scheduler.run_after(60, "s:plain", key="other")
    before = await get(h, free)
    assert await h.scheduler.list(state="failed").retry() == 1
    await h.settle()
    assert [(await get(h, job_id)).attempt for job_id in (first, second, free)] == [1, 2, 1]
    assert await get(h, free) == before
    assert await h.scheduler.failed_attempts(free) == []
    with pytest.raises(KeyConflict):
        await h.scheduler.retry(free)
    with pytest.raises(KeyConflict):
        await h.call("s:one", {"how": "retry", "job_id": free})
    assert await get(h, free) == before


async def test_a_mutation_may_catch_a_taken_key_and_go_on(start: Start) -> None:
    """The refusal undoes nothing but itself."""
    switch = Switch()
    ids: list[str] = []

    @switch.ns.mutation
    async def tries(ctx: MutationCtx) -> str:
        try:
            await ctx.scheduler.retry(ids[0])
        except KeyConflict:
            return await ctx.scheduler.run_after(5, "s:kept")
        raise AssertionError

    h = await start(switch.ns)
    ids.append(await h.scheduler.run_now("s:plain", key="k"))
    await h.settle()
    await h.scheduler.run_after(60, "s:plain", key="k")
    made = await h.call("s:tries")
    await h.advance(10)
    assert (await get(h, made)).state == "success"
    assert await h.scheduler.failed_attempts(ids[0]) == []


async def test_a_mutation_may_fail_a_job_and_another_bring_it_back_in_one_turn(start: Start) -> None:
    """What ends and is pending again in the same commit is not lost from the index."""
    switch = Switch()
    h = await start(switch.ns)
    await h.scheduler.run_many(
        [switch.ns.functions["s:plain"].bind(n=7).after(5)]  # type: ignore[attr-defined]
        + [switch.ns.functions["s:sweep"].bind(how="retry").after(5) for _ in range(3)]  # type: ignore[attr-defined]
    )
    ended = await h.advance(60)
    assert switch.ran == [7, 7]
    assert [job.result for job in ended if job.path == "s:sweep"] == [1, 0, 0]


# ------------------------------------------------------------------ forgotten


async def test_ended_jobs_are_kept_their_time_after_completion(start: Start) -> None:
    """K27: seven days unless the function says otherwise, `timedelta.max` for ever; never one that has not ended."""
    switch = Switch()
    switch.fails = False
    h = await start(switch.ns, prune=True)
    late = await h.scheduler.run_after(6 * DAY, "s:plain")
    waiting = await h.scheduler.run_after(300 * DAY, "s:plain")
    ids = {name: await h.scheduler.run_now(f"s:{name}") for name in ("plain", "brief", "gone", "kept")}

    async def left() -> set[str]:
        return {job.id async for job in h.scheduler.list()}

    await h.settle()
    assert await left() == {late, waiting, *ids.values()}
    await h.advance(minutes=2)
    assert await left() == {late, waiting, ids["plain"], ids["brief"], ids["kept"]}
    await h.advance(minutes=5)
    assert await left() == {late, waiting, ids["plain"], ids["kept"]}
    await h.advance(7 * DAY - timedelta(minutes=8))
    assert ids["plain"] in await left()
    await h.advance(minutes=3)
    assert await left() == {late, waiting, ids["kept"]}
    await h.advance(6 * DAY)
    assert await left() == {waiting, ids["kept"]}
    await h.advance(280 * DAY)
    assert await left() == {waiting, ids["kept"]}


async def test_time_that_passed_while_nobody_ran_counts(start: Start) -> None:
    """What was kept long enough goes after the start, not before the start's own work."""
    switch = Switch()
    switch.fails = False
    h = await start(switch.ns, prune=True)
    await h.scheduler.run_now("s:plain")
    due = await h.scheduler.run_after(DAY, "s:plain")
    await h.settle()
    await h.restart(down_for=30 * DAY)
    await h.advance(minutes=2)
    assert [job.id async for job in h.scheduler.list()] == [due]


async def test_V8_a_forgotten_job_is_never_brought_back(start: Start) -> None:
    """Looked at, canceled, retried, dropped or waited for: there is no such job. Its keys are free."""
    switch = Switch()
    h = await start(switch.ns, prune=True)
    job_id = await h.scheduler.run_now("s:twice", key="k", idempotency_key="i")
    await h.advance(8 * DAY)
    assert await h.scheduler.get(job_id) is None
    assert [
        await h.scheduler.cancel(job_id), await h.scheduler.cancel(job_id, running=True), await h.scheduler.retry(job_id),
        await h.scheduler.drop(job_id), await h.scheduler.failed_attempts(job_id),
    ] == [False, False, False, False, []]  # fmt: skip
    with pytest.raises(InvalidArgs, match="there is no job"):
        await h.scheduler.wait(job_id)
    again = await h.scheduler.run_now("s:twice", key="k", on_conflict="error", idempotency_key="i")
    assert again > job_id


async def test_V8_a_job_that_is_retried_in_its_last_minute_stays(start: Start) -> None:
    """Pending again it is not forgotten, however long it takes; then its time begins anew."""
    switch = Switch()
    h = await start(switch.ns, prune=True)
    (job_id,) = await switch.dead(h, 1)
    await h.advance(7 * DAY - timedelta(seconds=11))
    await h.scheduler.pause("to look at it")
    assert await h.scheduler.retry(job_id)
    await h.advance(30 * DAY)
    assert (await get(h, job_id)).state == "pending"
    await h.scheduler.resume()
    await h.advance(7 * DAY - timedelta(seconds=1))
    assert (await get(h, job_id)).state == "failed"
    await h.advance(minutes=2)
    assert await h.scheduler.get(job_id) is None


async def test_many_are_forgotten_in_small_batches(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than PRUNE_MAX in one turn, all of them soon, and with them their attempts and the live calls' rows."""
    switch = Switch()
    h = await start(switch.ns, prune=True)
    await switch.dead(h, PRUNE_MAX * 2 + 1, retry=Retry(2, jitter=0, max_delay=0))
    await h.app.idempotent("live").call("s:kept")
    steering = h.app._running().store._writer.steering  # type: ignore[attr-defined]
    batches: list[int] = []
    prune = steering.prune

    def counted(now_us: int, limit: int) -> Any:
        pruned = prune(now_us, limit)
        batches.append(pruned.forgotten)
        return pruned

    monkeypatch.setattr(steering, "prune", counted)
    await h.advance(8 * DAY)
    assert [batch for batch in batches if batch] == [PRUNE_MAX, PRUNE_MAX, 1]
    assert await h.scheduler.list().count() == 1
    raw = h.app._running().store._connection.raw  # type: ignore[attr-defined]
    assert raw.execute("SELECT count(*) FROM _scheduler_attempts").fetchone() == (0,)


async def test_a_harness_forgets_nothing_unless_told(start: Start) -> None:
    """A test may look at jobs after years."""
    switch = Switch()
    h = await start(switch.ns)
    (job_id,) = await switch.dead(h, 1)
    await h.advance(400 * DAY)
    assert (await get(h, job_id)).state == "failed"
