"""Attempts that a crash or a shutdown interrupts, and failures that come late: how retries go on from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime import ActionCtx, App, MutationCtx, Namespace, Retry
from tests.runtime.test_retries import get, seconds

if TYPE_CHECKING:
    from tests.runtime.conftest import Start


async def test_K9_an_action_with_retries_goes_on_after_a_crash(start: Start) -> None:
    """Its attempt is counted, its pause kept, its id and occurrence the same; one without retries is interrupted."""
    ns: Namespace[Any] = Namespace("crash")
    seen: list[tuple[int, str]] = []

    @ns.action(retry=Retry(3, jitter=0, base=5))
    async def stubborn(ctx: ActionCtx) -> None:
        seen.append((ctx.invoker.attempt, ctx.idempotency_key))  # type: ignore[union-attr]
        await ctx.sleep(60)

    @ns.action
    async def once(ctx: ActionCtx) -> None:
        await ctx.sleep(60)

    h = await start(ns)
    job_id = await h.scheduler.run_now("crash:stubborn")
    other = await h.scheduler.run_now("crash:once")
    await h.advance(1)
    await h.restart()
    job, lost = await get(h, job_id), await get(h, other)
    assert (job.state, job.attempt, job.cause, job.fire_at) == ("pending", 1, "interrupted", h.now + seconds(5))
    assert (lost.state, lost.cause, lost.attempt) == ("failed", "interrupted", 1)
    await h.advance(4.9)
    assert len(seen) == 1
    await h.advance(100)
    assert (await get(h, job_id)).state == "success"
    assert seen == [(1, job_id), (2, job_id)]


async def test_a_shutdown_is_an_attempt_like_any_other(start: Start) -> None:
    """S1: what the grace did not suffice for is retried by its policy after the restart, else interrupted."""
    ns: Namespace[Any] = Namespace("stop")

    @ns.action
    async def slow(ctx: ActionCtx) -> str:
        await ctx.sleep(60)
        return "done"

    h = await start(ns)
    ids = [await h.scheduler.run_now("stop:slow", retry=2), await h.scheduler.run_now("stop:slow")]
    await h.settle()
    await h.restart(kill=False, down_for=60)
    assert [(await get(h, job_id)).state for job_id in ids] == ["in_progress", "failed"]
    await h.advance(60)
    assert [((await get(h, job_id)).state, (await get(h, job_id)).attempt) for job_id in ids] == [
        ("success", 2),
        ("failed", 1),
    ]
    assert [at.cause for at in await h.scheduler.failed_attempts(ids[0])] == ["interrupted"]


# ------------------------------------------------------------------ known


async def test_an_interrupted_attempt_is_on_record(start: Start) -> None:
    """`failed_attempts` gives every attempt that was followed by another, those that a crash ended too."""
    assert await interrupted(start) == [("interrupted", 1)]


async def test_an_interrupted_attempt_says_what_is_true(start: Start) -> None:
    """The error of a job that runs again must not say that it does not."""
    await interrupted(start, says="not run again")


async def interrupted(start: Start, says: str | None = None) -> list[tuple[str | None, int]]:
    """Crash under an attempt that is retried, and return its record; its error must not say this."""
    ns: Namespace[Any] = Namespace("crash")

    @ns.action(retry=3)
    async def act(ctx: ActionCtx) -> None:
        await ctx.sleep(60)

    h = await start(ns)
    job_id = await h.scheduler.run_now("crash:act")
    await h.settle()
    await h.restart()
    assert says is None or says not in str((await get(h, job_id)).error)
    return [(at.cause, at.attempt) for at in await h.scheduler.failed_attempts(job_id)]


async def test_a_failure_that_only_the_commit_finds_is_retried_too(start: Start) -> None:
    """To the function's author it is the same IntegrityError as one of a statement."""
    ns: Namespace[Any] = Namespace("late")

    @ns.mutation(retry=Retry(3, jitter=0))
    async def orphan(ctx: MutationCtx) -> None:
        await ctx.db.execute("INSERT INTO children (parent) VALUES (99)")

    app: App[Any] = App("unused.db", namespaces=[ns])
    app.schema(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
    )
    h = await start(app)
    await h.scheduler.run_now("late:orphan")
    (job,) = await h.advance(60)
    assert (job.state, job.attempt) == ("failed", 3)
