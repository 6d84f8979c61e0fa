"""Wrong, missing and unknown arguments, wherever a function is called by its own name."""

from __future__ import annotations

from runtime import ActionCtx, App, MutationCtx, QueryCtx
from runtime.testing import Harness
from tests.typing.programs.functions import get_post, notify, publish, remove, titles

app = App("app.db")


async def of_moment(ctx: MutationCtx) -> None:
    """`.call` knows the function's arguments."""
    await ctx.scheduler.after(1).call(publish, post=1)  # error: call-arg, reportCallIssue
    await ctx.scheduler.after(1).call(publish, post_id="1")  # error: arg-type, reportArgumentType
    await ctx.scheduler.after(1).call(publish)  # error: call-arg, reportCallIssue
    await ctx.scheduler.after(1).call(publish, post_id=1, note=2)  # error: arg-type, reportArgumentType
    await ctx.scheduler.now().call(remove, 1, 2)  # error: call-arg, reportCallIssue
    await ctx.scheduler.at(0).call(remove, "1")  # error: arg-type, reportArgumentType
    await ctx.scheduler.after(1).call(publish, 1)  # error: call-arg, reportCallIssue
    await ctx.scheduler.after(1).call("posts:publish", post_id=1)  # error: arg-type, reportArgumentType
    await app.scheduler.after(1).call(publish, post=1)  # error: call-arg, reportCallIssue


def of_bind() -> None:
    """`bind` knows them too."""
    print(publish.bind(post=1))  # error: call-arg, reportCallIssue
    print(publish.bind(post_id="1"))  # error: arg-type, reportArgumentType
    print(publish.bind())  # error: call-arg, reportCallIssue
    print(remove.bind(1, 2))  # error: call-arg, reportCallIssue
    print(publish.bind(post_id=1).after(1, keys="k"))  # error: call-arg, reportCallIssue
    print(publish.bind(post_id=1).at("tomorrow"))  # error: arg-type, reportArgumentType


async def of_mutation(ctx: MutationCtx) -> None:
    """And `ctx.run_…`."""
    await ctx.run_query(get_post)  # error: call-overload, reportCallIssue
    await ctx.run_query(get_post, post=1)  # error: call-overload, reportCallIssue
    await ctx.run_query(get_post, post_id="1")  # error: call-overload, reportArgumentType
    await ctx.run_query(titles, post_id=1)  # error: call-overload, reportCallIssue
    await ctx.run_mutation(publish)  # error: call-overload, reportCallIssue
    await ctx.run_mutation(publish, post=1)  # error: call-overload, reportCallIssue
    await ctx.run_mutation(remove, "1")  # error: call-overload, reportArgumentType
    await ctx.run_mutation("posts:drop", post_id=1)  # error: call-overload, reportArgumentType
    await publish(ctx, post="1")  # error: call-arg, reportCallIssue
    await remove(ctx)  # error: call-arg, reportCallIssue


async def of_action(ctx: ActionCtx) -> None:
    """In an action as well."""
    await ctx.run_query(get_post, post=1)  # error: call-overload, reportCallIssue
    await ctx.run_mutation(publish, post_id=None)  # error: call-overload, reportArgumentType
    await ctx.run_action(notify)  # error: call-overload, reportCallIssue
    await ctx.run_action(notify, post_id="1")  # error: call-overload, reportArgumentType


async def of_app() -> None:
    """From a route."""
    await app.call(publish)  # error: call-overload, reportCallIssue
    await app.call(publish, post=1)  # error: call-overload, reportCallIssue
    await app.call(publish, post_id="1")  # error: call-overload, reportArgumentType
    await app.acting_as(None).call(publish, post=1)  # error: call-overload, reportCallIssue
    await app.idempotent("k").call(publish, post_id="1")  # error: call-overload, reportArgumentType
    async with Harness(app) as h:
        await h.call(publish, post=1)  # error: call-overload, reportCallIssue


async def results(ctx: MutationCtx) -> int:
    """A result has the function's type."""
    number: int = await ctx.run_mutation(publish, post_id=1)  # error: call-overload, reportAssignmentType
    flag: str = await ctx.run_mutation(remove, 1)  # error: call-overload, reportAssignmentType
    print(number, flag)
    return await ctx.run_query(titles)  # error: call-overload, reportReturnType


async def rows(ctx: QueryCtx) -> int:
    """So does a typed row; and there may be none."""
    return await ctx.db.fetch_value("SELECT 1", into=int)  # error: return-value, reportReturnType
