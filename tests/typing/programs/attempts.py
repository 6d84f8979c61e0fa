"""Retries, timeouts, lanes, limits and hooks: every option of a function and of a job, and what steers them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from typing_extensions import assert_type

from runtime import (
    Action,
    ActionCtx,
    App,
    FailedAttempt,
    GiveUp,
    JobEvent,
    JobOptions,
    Mutation,
    MutationCtx,
    Namespace,
    PoolInfo,
    Query,
    QueryCtx,
    Retry,
    RetryLater,
    Scheduler,
)

app = App("app.db")
work = Namespace("work")
often = Retry(
    5,
    backoff="linear",
    base=timedelta(seconds=2),
    factor=2,
    max_delay=60,
    jitter=0.2,
    retry_on=(OSError, TimeoutError),
    give_up_on=PermissionError,
)


@work.action(retry=often, timeout=30, concurrency=4, pool="mail", rate="10/s", keep=timedelta(days=1))
async def send(ctx: ActionCtx, *, to: str) -> int:
    """An action with every option."""
    if to == "":
        raise GiveUp("nobody")
    if await ctx.scheduler.cancel(key=to, running=True):
        raise RetryLater(timedelta(minutes=5), "the other one stops first")
    raise RetryLater(1.5)


@work.mutation(retry=3, timeout=timedelta(seconds=2), keep=timedelta.max)
async def store(ctx: MutationCtx, *, to: str) -> int:
    """A mutation with every option; it may steer as the app does."""
    assert_type(await ctx.scheduler.retry("id"), bool)
    assert_type(await ctx.scheduler.drop("id"), bool)
    assert_type(await ctx.scheduler.list(state="failed").retry(), int)
    return await ctx.scheduler.list(cause="timeout", lane=to).drop()


@work.query(timeout=0.5)
async def look(ctx: QueryCtx) -> datetime:
    """A query with a limit."""
    return ctx.now


@work.action(retry=None, timeout=None, keep=None)
async def plain(ctx: ActionCtx) -> None:
    """None is as if it were not said."""


assert_type(send.bind(to="a").path, str)
kinds: list[Action[..., object] | Mutation[..., object] | Query[..., object]] = [send, store, look, plain]


async def by_job(scheduler: Scheduler) -> None:
    """The options of one job."""
    await scheduler.run_after(5, "work:send", {"to": "a"}, retry=3, timeout=1, lane="user-7", priority=-5)
    await scheduler.after(5, retry=often, timeout=timedelta(seconds=1), lane="l", priority=100).call(send, to="a")
    await scheduler.run_many([send.bind(to="a").after(5, retry=1), store.bind(to="b").at(0, lane="l")])
    options: JobOptions = {"retry": Retry(), "timeout": 2.5, "lane": "l", "priority": 0}
    await scheduler.now(**options).call(store, to="a")
    assert_type(await scheduler.cancel("id", running=True), bool)
    for attempt in await scheduler.failed_attempts("id"):
        assert_type(attempt, FailedAttempt)
        assert_type(attempt.ended_at, datetime)


async def by_operator() -> None:
    """Everything at once."""
    assert_type(await app.scheduler.pause("deploying"), None)
    assert_type(app.scheduler.paused, str | None)
    assert_type(await app.scheduler.resume(), None)
    assert_type(await app.scheduler.set_pool("mail", 0), None)
    assert_type(await app.scheduler.set_pool("mail", None), None)
    assert_type(app.scheduler.pools(), Sequence[PoolInfo])


app.pool("mail", limit=8)


@app.on_job_failed
async def failed(event: JobEvent) -> None:
    """An async hook stays what it is."""
    if event.state == "pending":
        assert_type(event.retry_at, datetime | None)


@app.on_dispatch
def started(event: JobEvent) -> str:
    """A plain one too."""
    return event.job_id


app.on_job_finished(started)


async def called(event: JobEvent) -> None:
    """They can be called."""
    await failed(event)
    assert_type(started(event), str)
