"""A call that is made and never awaited does nothing: both checkers say so."""

from __future__ import annotations

from runtime import ActionCtx, App, MutationCtx, QueryCtx
from runtime.testing import Harness
from tests.typing.programs.functions import get_post, notify, ping, publish, titles

app = App("app.db")


async def of_query(ctx: QueryCtx) -> None:
    """Reads."""
    ctx.db.fetch_one("SELECT 1")  # error: unused-coroutine, reportUnusedCoroutine
    ctx.db.fetch_all("SELECT 1", into=int)  # error: unused-coroutine, reportUnusedCoroutine
    ctx.db.fetch_value("SELECT 1")  # error: unused-coroutine, reportUnusedCoroutine
    ctx.run_query(titles)  # error: unused-coroutine, reportUnusedCoroutine
    ctx.run_query("posts:titles")  # error: unused-coroutine, reportUnusedCoroutine
    titles(ctx)  # error: unused-coroutine, reportUnusedCoroutine


async def of_mutation(ctx: MutationCtx) -> None:
    """Writes and jobs."""
    ctx.db.execute("DELETE FROM posts")  # error: unused-coroutine, reportUnusedCoroutine
    ctx.db.executemany("DELETE FROM posts WHERE id = ?", [[1]])  # error: unused-coroutine, reportUnusedCoroutine
    ctx.run_mutation(publish, post_id=1)  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.after(1).call(publish, post_id=1)  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.run_after(1, "mail:ping")  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.run_at(0, "mail:ping")  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.run_now(ping.bind())  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.run_many([ping.bind()])  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.cancel("id")  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.get("id")  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.retry("id")  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.list().page()  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.list().count()  # error: unused-coroutine, reportUnusedCoroutine


async def of_action(ctx: ActionCtx) -> None:
    """Everything an action does."""
    ctx.run_query(get_post, post_id=1)  # error: unused-coroutine, reportUnusedCoroutine
    ctx.run_mutation(publish, post_id=1)  # error: unused-coroutine, reportUnusedCoroutine
    ctx.run_action(notify, post_id=1)  # error: unused-coroutine, reportUnusedCoroutine
    ctx.sleep(1)  # error: unused-coroutine, reportUnusedCoroutine
    ctx.use(dict)  # error: unused-coroutine, reportUnusedCoroutine
    ctx.scheduler.now().call(ping)  # error: unused-coroutine, reportUnusedCoroutine


async def kept(ctx: MutationCtx) -> str:
    """A call is not its answer."""
    job_id: str = ctx.scheduler.run_now("mail:ping")  # error: assignment, reportAssignmentType
    if job_id:
        return job_id
    return ctx.run_mutation(publish, post_id=1)  # error: return-value, reportReturnType


async def of_app() -> None:
    """A route's calls."""
    app.call(publish, post_id=1)  # error: unused-coroutine, reportUnusedCoroutine
    app.call("posts:publish")  # error: unused-coroutine, reportUnusedCoroutine
    app.acting_as(None).call(publish, post_id=1)  # error: unused-coroutine, reportUnusedCoroutine
    app.idempotent("k").call(publish, post_id=1)  # error: unused-coroutine, reportUnusedCoroutine
    app.scheduler.wait("id")  # error: unused-coroutine, reportUnusedCoroutine
    app.scheduler.run_now("mail:ping")  # error: unused-coroutine, reportUnusedCoroutine


async def of_harness(h: Harness) -> None:
    """A test's calls."""
    h.call(publish, post_id=1)  # error: unused-coroutine, reportUnusedCoroutine
    h.advance(1)  # error: unused-coroutine, reportUnusedCoroutine
    h.settle()  # error: unused-coroutine, reportUnusedCoroutine
    h.restart()  # error: unused-coroutine, reportUnusedCoroutine
    h.pending()  # error: unused-coroutine, reportUnusedCoroutine
