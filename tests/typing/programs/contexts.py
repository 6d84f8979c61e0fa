"""What a ctx gives: results with inferred types, helpers that fit several kinds, plain calls of other functions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from typing import Any

import httpx
from typing_extensions import assert_type

from runtime import ActionCtx, MutationCtx, Namespace, QueryCtx, Scheduler
from tests.typing.programs.functions import Post, count_posts, get_post, notify, publish, remind, remove, titles

ctxs = Namespace("ctxs")


@ctxs.query
async def nested_reads(ctx: QueryCtx) -> int:
    """A query calls queries; by path the result is Any."""
    assert_type(await ctx.run_query(get_post, post_id=1), Post | None)
    assert_type(await ctx.run_query(titles), list[str])
    assert_type(await ctx.run_query("posts:one", {"post_id": 1}), Any)
    assert_type(await get_post(ctx, post_id=1, strict=False), Post | None)
    assert_type(ctx.now, datetime)
    return await count_posts(ctx)


@ctxs.mutation
async def nested_writes(ctx: MutationCtx) -> int:
    """A mutation calls queries and mutations, and helpers written for a query or for anything that schedules."""
    assert_type(await ctx.run_query(titles), list[str])
    assert_type(await ctx.run_mutation(publish, post_id=1, note="x"), str)
    assert_type(await ctx.run_mutation(remove, 1), bool)
    assert_type(await ctx.run_mutation(remove, post_id=1), bool)
    assert_type(await ctx.run_mutation("posts:drop", {"post_id": 1}), Any)
    assert_type(await remove(ctx, 1), bool)
    assert_type(await get_post(ctx, post_id=1), Post | None)
    assert_type(ctx.scheduler, Scheduler)
    assert_type(await remind(ctx, 1), str)
    return await count_posts(ctx)


async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A provider that is closed when the app stops."""
    async with httpx.AsyncClient() as http:
        yield http


async def counter() -> AsyncGenerator[int, None]:
    """The same, annotated as what it really is."""
    yield 1


async def token() -> str:
    """A provider that awaits."""
    return "secret"


def limit() -> int:
    """A plain provider."""
    return 3


@ctxs.action
async def all_of_it(ctx: ActionCtx) -> int:
    """An action calls everything, and uses providers."""
    assert_type(await ctx.run_query(get_post, post_id=1), Post | None)
    assert_type(await ctx.run_mutation(remove, post_id=1), bool)
    assert_type(await ctx.run_action(notify, post_id=1), int)
    assert_type(await ctx.run_action("mail:notify", {"post_id": 1}), Any)
    assert_type(await notify(ctx, post_id=1), int)
    assert_type(await ctx.use(client), httpx.AsyncClient)
    assert_type(await ctx.use(counter), int)
    assert_type(await ctx.use(token), str)
    assert_type(await ctx.use(limit), int)
    assert_type(ctx.idempotency_key, str)
    assert_type(await remind(ctx, 1), str)
    await ctx.sleep(0.5)
    return await ctx.use(limit)


@ctxs.query
async def who(ctx: QueryCtx) -> str:
    """The invoker is a tagged union: its source narrows it."""
    invoker = ctx.invoker
    if invoker.source == "scheduler":
        assert_type(invoker.scheduled_at, datetime)
        return f"{invoker.job_id} {invoker.attempt} {invoker.occurrence_id}"
    if invoker.source == "function":
        return invoker.path
    return invoker.type
