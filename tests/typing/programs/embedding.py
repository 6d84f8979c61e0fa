"""An app inside FastAPI: the lifespan, routes that call and schedule, and a mounted Starlette app."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from typing_extensions import assert_type

from runtime import App, FunctionError, KeyConflict, NotStarted
from tests.typing.programs.functions import Post, get_post, mail, posts, publish, remind, titles

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

rt = App("app.db", namespaces=[posts, mail], lock_timeout=5, grace=30, max_running_actions=4)
rt.schema("CREATE TABLE posts (id INTEGER PRIMARY KEY, title TEXT, note TEXT)")
late = rt.namespace("late", access="system")
rt.include(posts, mail)

api = FastAPI(lifespan=rt.lifespan)
asgi = Starlette(lifespan=rt.lifespan, routes=[Mount("/api", api)])


@api.post("/posts/{post_id}/publish")
async def publish_route(post_id: int) -> dict[str, str]:
    """A route calls a mutation and answers with a job's id."""
    job_id = await rt.call(publish, post_id=post_id)
    assert_type(job_id, str)
    return {"job": job_id, "reminder": await remind(rt, post_id)}


@api.get("/posts/{post_id}")
async def get_route(post_id: int) -> Post | None:
    """A route calls a query."""
    assert_type(await rt.call("posts:one", {"post_id": post_id}), Any)
    assert_type(await rt.call(titles), list[str])
    return await rt.call(get_post, post_id=post_id)


@asynccontextmanager
async def with_more(app: FastAPI) -> AsyncGenerator[None, None]:
    """A lifespan of the user's own around the app's."""
    async with rt.lifespan(app):
        yield


async def by_hand(path: Path) -> str | None:
    """The app is an async context manager; a resend under an idempotency key is the same call."""
    async with App(path, namespaces=[posts], create=False, synchronous="NORMAL") as app:
        try:
            assert_type(await app.idempotent("order-7").call(publish, post_id=1), str)
        except (KeyConflict, NotStarted) as error:
            return str(error)
        except FunctionError as error:
            return error.code
        return app.unready_reason
