"""Options of functions and jobs that have another type, or that a kind does not take."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from runtime import ActionCtx, App, MutationCtx, Namespace, QueryCtx, Retry, RetryLater
from tests.typing.programs.attempts import send

app = App("app.db")
wrong = Namespace("wrong")


@wrong.action(retry="3")  # error: call-overload, reportArgumentType
async def retry_text(ctx: ActionCtx) -> None:
    """A policy, or a number of attempts."""


@wrong.action(timeout="30s")  # error: call-overload, reportArgumentType
async def timeout_text(ctx: ActionCtx) -> None:
    """Seconds, or a timedelta."""


@wrong.action(keep=3600)  # error: call-overload, reportArgumentType
async def keep_number(ctx: ActionCtx) -> None:
    """Whether a number meant seconds or days nobody could tell: a timedelta says it."""


@wrong.action(rate=10)  # error: call-overload, reportArgumentType
async def rate_number(ctx: ActionCtx) -> None:
    """A rate has a period."""


@wrong.action(concurrency=2.5)  # error: call-overload, reportArgumentType
async def half(ctx: ActionCtx) -> None:
    """Slots are whole."""


@wrong.mutation(concurrency=2)  # error: call-overload, reportCallIssue
async def bounded(ctx: MutationCtx) -> None:
    """Mutations run one after the other."""


@wrong.mutation(pool="mail")  # error: call-overload, reportCallIssue
async def pooled(ctx: MutationCtx) -> None:
    """Pools are for actions."""


@wrong.query(retry=3)  # error: call-overload, reportCallIssue
async def retried(ctx: QueryCtx) -> None:
    """Who asks can ask again."""


@wrong.query(keep=timedelta(days=1))  # error: call-overload, reportCallIssue
async def kept(ctx: QueryCtx) -> None:
    """Queries leave no job."""


async def of_job(ctx: MutationCtx) -> None:
    """The options of one job."""
    ctx.scheduler.after(1, retry="3")  # error: arg-type, reportArgumentType
    ctx.scheduler.after(1, timeout="1s")  # error: arg-type, reportArgumentType
    ctx.scheduler.after(1, lane=7)  # error: arg-type, reportArgumentType
    ctx.scheduler.after(1, priority="high")  # error: arg-type, reportArgumentType
    ctx.scheduler.after(1, priority=0.5)  # error: arg-type, reportArgumentType
    ctx.scheduler.now(keep=timedelta(days=1))  # error: call-arg, reportCallIssue
    ctx.scheduler.now(concurrency=1)  # error: call-arg, reportCallIssue
    print(send.bind(to="a").after(1, retries=3))  # error: call-arg, reportCallIssue
    await ctx.scheduler.run_now("work:send", {}, retry=[3])  # error: call-overload, reportArgumentType
    await ctx.scheduler.cancel("id", running="yes")  # error: call-overload, reportArgumentType
    await ctx.scheduler.cancel(running=True)  # error: call-overload, reportCallIssue
    await ctx.scheduler.drop(7)  # error: arg-type, reportArgumentType
    ctx.scheduler.list(cause="crashed")  # error: arg-type, reportArgumentType
    ctx.scheduler.list(state="failed").retry()  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.drop("id")  # error: unused-coroutine, reportUnusedCoroutine
    await ctx.scheduler.pause()  # error: attr-defined, reportAttributeAccessIssue


def of_policy() -> None:
    """The parts of a policy."""
    print(Retry("5"))  # error: arg-type, reportArgumentType
    print(Retry(5, "linear"))  # error: call-arg, reportCallIssue
    print(Retry(5, backoff="fibonacci"))  # error: arg-type, reportArgumentType
    print(Retry(5, base="1s"))  # error: arg-type, reportArgumentType
    print(Retry(5, retry_on=[OSError]))  # error: arg-type, reportArgumentType
    print(Retry(5, give_up_on="OSError"))  # error: arg-type, reportArgumentType
    print(RetryLater())  # error: call-arg, reportCallIssue
    print(RetryLater("5s"))  # error: arg-type, reportArgumentType


async def of_operator() -> None:
    """Pools have a name and a limit, hooks take one event."""
    app.pool("mail")  # error: call-arg, reportCallIssue
    app.pool("mail", "8")  # error: arg-type, reportArgumentType
    await app.scheduler.set_pool("mail")  # error: call-arg, reportCallIssue
    await app.scheduler.pause(3)  # error: arg-type, reportArgumentType
    app.scheduler.resume()  # error: unused-coroutine, reportUnusedCoroutine


@app.on_job_failed  # error: type-var, reportArgumentType
def no_event() -> None:
    """It would be called with an event."""


def use(value: Any) -> None:
    """Keep the functions above in use."""


use([retry_text, timeout_text, keep_number, rate_number, half, bounded, pooled, retried, kept, no_event])
