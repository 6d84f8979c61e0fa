"""What a kind of function can't do, and what can't be a function."""

from __future__ import annotations

from typing import Any

from runtime import ActionCtx, App, MutationCtx, Namespace, QueryCtx
from tests.typing.programs.functions import count_posts, get_post, notify, publish, remind, titles

app = App("app.db")
wrong = Namespace("wrong")


async def of_query(ctx: QueryCtx) -> None:
    """A query has no scheduler, and its database is for reading."""
    await ctx.scheduler.run_now("mail:ping")  # error: attr-defined, reportAttributeAccessIssue
    await ctx.db.execute("DELETE FROM posts")  # error: attr-defined, reportAttributeAccessIssue
    await ctx.db.executemany("DELETE FROM posts", [])  # error: attr-defined, reportAttributeAccessIssue
    await ctx.run_mutation(publish, post_id=1)  # error: attr-defined, reportAttributeAccessIssue
    await ctx.run_action(notify, post_id=1)  # error: attr-defined, reportAttributeAccessIssue
    await remind(ctx, 1)  # error: arg-type, reportArgumentType
    await publish(ctx, post_id=1)  # error: arg-type, reportArgumentType


async def of_mutation(ctx: MutationCtx) -> None:
    """A mutation has no actions, no sleep and no providers, and can't wait for a job."""
    await ctx.run_action(notify, post_id=1)  # error: attr-defined, reportAttributeAccessIssue
    await ctx.run_mutation(notify, post_id=1)  # error: call-overload, reportArgumentType
    await ctx.run_query(publish, post_id=1)  # error: call-overload, reportArgumentType
    await ctx.sleep(1)  # error: attr-defined, reportAttributeAccessIssue
    await ctx.use(dict)  # error: attr-defined, reportAttributeAccessIssue
    await ctx.scheduler.wait("id")  # error: attr-defined, reportAttributeAccessIssue
    await notify(ctx, post_id=1)  # error: arg-type, reportArgumentType


async def of_action(ctx: ActionCtx) -> None:
    """An action has no database of its own, so a helper for queries does not fit."""
    await ctx.db.fetch_one("SELECT 1")  # error: attr-defined, reportAttributeAccessIssue
    await count_posts(ctx)  # error: arg-type, reportArgumentType
    await ctx.run_mutation(get_post, post_id=1)  # error: call-overload, reportArgumentType
    await ctx.run_action(publish, post_id=1)  # error: call-overload, reportArgumentType
    await publish(ctx, post_id=1)  # error: arg-type, reportArgumentType


async def scheduling_a_query(ctx: MutationCtx) -> None:
    """A query can't be scheduled, in any way that takes the function."""
    await ctx.scheduler.after(1).call(titles)  # error: arg-type, reportArgumentType
    await ctx.scheduler.now().call(get_post, post_id=1)  # error: arg-type, reportArgumentType
    await app.scheduler.at(0).call(titles)  # error: arg-type, reportArgumentType
    await app.scheduler.run_now(titles)  # error: call-overload, reportArgumentType
    print(titles.bind())  # error: attr-defined, reportAttributeAccessIssue
    print(get_post.bind(post_id=1))  # error: attr-defined, reportAttributeAccessIssue


async def wrong_options(ctx: MutationCtx) -> None:
    """An option that does not exist, or has no such value."""
    ctx.scheduler.after(1, keys="k")  # error: call-arg, reportCallIssue
    ctx.scheduler.after(1, key=1)  # error: arg-type, reportArgumentType
    ctx.scheduler.after(second=1)  # error: call-arg, reportCallIssue
    ctx.scheduler.now(on_conflict="skip")  # error: arg-type, reportArgumentType
    ctx.scheduler.at("tomorrow")  # error: arg-type, reportArgumentType
    await ctx.scheduler.run_after("1", "mail:ping")  # error: call-overload, reportArgumentType
    await ctx.scheduler.run_now("mail:ping", {}, idempotency="i")  # error: call-overload, reportCallIssue
    await ctx.scheduler.run_now("mail:ping", post_id=1)  # error: call-overload, reportCallIssue
    await ctx.scheduler.cancel("id", key="k")  # error: call-overload, reportCallIssue
    await ctx.scheduler.cancel()  # error: call-overload, reportCallIssue
    ctx.scheduler.list(state="done")  # error: arg-type, reportArgumentType


@wrong.mutation  # error: arg-type, reportArgumentType
def plain(ctx: MutationCtx) -> None:
    """A plain def is no function of ours."""


@wrong.query  # error: arg-type, reportArgumentType
async def without_ctx() -> None:
    """The first parameter is ctx."""


@wrong.query  # error: arg-type, reportArgumentType
async def wrong_ctx(ctx: MutationCtx) -> None:
    """A query gets a QueryCtx."""


@wrong.action(access="everybody")  # error: call-overload, reportArgumentType
async def wrong_access(ctx: ActionCtx) -> None:
    """There are three accesses."""


@wrong.query(retries=3)  # error: call-overload, reportCallIssue
async def wrong_option(ctx: QueryCtx) -> None:
    """There is no such option."""


@wrong.action()  # error: arg-type, reportArgumentType
def plain_with_options(ctx: ActionCtx) -> None:
    """The same with options."""


def use(value: Any) -> None:
    """Keep the functions above in use."""


use([plain, without_ctx, wrong_ctx, wrong_access, wrong_option, plain_with_options])
