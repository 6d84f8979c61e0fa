"""The functions the other programs use: all three kinds, with and without decorator options."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel
from typing_extensions import assert_type

from runtime import (
    Action,
    ActionCtx,
    CanSchedule,
    Mutation,
    MutationCtx,
    Namespace,
    Query,
    QueryCtx,
    Reader,
    Row,
    Writer,
)

posts = Namespace("posts")
mail = Namespace("mail", access="public")


class Post(BaseModel):
    """A pydantic model as a row."""

    id: int
    title: str


@dataclass
class Draft:
    """A dataclass as a row."""

    id: int
    title: str


@posts.query
async def titles(ctx: QueryCtx) -> list[str]:
    """A query without options and without arguments."""
    return [str(row["title"]) for row in await ctx.db.fetch_all("SELECT title FROM posts")]


@posts.query(access="public", timeout=2, name="one", aliases=["posts:single"])
async def get_post(ctx: QueryCtx, *, post_id: int, strict: bool = True) -> Post | None:
    """A query with every option, a default, and a typed row."""
    post = await ctx.db.fetch_one("SELECT * FROM posts WHERE id = ?", [post_id], into=Post)
    assert_type(post, Post | None)
    if post is None and strict:
        raise LookupError(post_id)
    return post


@posts.mutation
async def publish(ctx: MutationCtx, *, post_id: int, note: str = "") -> str:
    """A mutation without options that schedules."""
    await ctx.db.execute("UPDATE posts SET note = :note WHERE id = :id", {"note": note, "id": post_id})
    return await ctx.scheduler.after(minutes=5).call(notify, post_id=post_id)


@posts.mutation(access="internal", timeout=timedelta(seconds=3), aliases=("posts:drop",))
async def remove(ctx: MutationCtx, post_id: int) -> bool:
    """A mutation with options and a positional argument."""
    result = await ctx.db.execute("DELETE FROM posts WHERE id = ?", (post_id,))
    assert_type(result.rowcount, int)
    assert_type(result.lastrowid, int | None)
    return result.rowcount == 1


@mail.action
async def notify(ctx: ActionCtx, *, post_id: int) -> int:
    """An action without options."""
    post = await ctx.run_query(get_post, post_id=post_id)
    return 0 if post is None else len(post.title)


@mail.action(access="system", name="report", aliases=[])
async def send_report(ctx: ActionCtx, *, to: list[str], retries: int = 3) -> None:
    """An action with options."""
    for _ in to:
        await ctx.sleep(retries)


@mail.action
async def ping(ctx: ActionCtx) -> None:
    """An action without arguments."""
    await ctx.sleep(timedelta(seconds=1))


assert_type(titles, Query[[], list[str]])
assert_type(titles.path, str)
kinds: list[Query[..., object] | Mutation[..., object] | Action[..., object]] = [titles, publish, notify]


async def count_posts(ctx: QueryCtx) -> int:
    """A helper over QueryCtx: it works in a mutation too."""
    found = await ctx.db.fetch_value("SELECT count(*) FROM posts", into=int)
    assert_type(found, int | None)
    return found or 0


async def remind(ctx: CanSchedule, post_id: int) -> str:
    """A helper over anything that has a scheduler."""
    return await ctx.scheduler.after(hours=1, key=f"remind-{post_id}").call(notify, post_id=post_id)


async def read(db: Reader) -> list[Draft]:
    """A helper over the reading half of a database."""
    drafts = await db.fetch_all("SELECT id, title FROM posts", into=Draft)
    assert_type(drafts, list[Draft])
    return drafts


async def write(db: Writer) -> None:
    """A helper over the writing half."""
    await db.executemany("INSERT INTO posts (title) VALUES (?)", [["a"], ["b"]])
    assert_type(await db.fetch_one("SELECT 1"), Row | None)
    assert_type(await read(db), list[Draft])
