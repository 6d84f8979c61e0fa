"""The app's life: in FastAPI and Starlette, and what is refused before it starts and after it ended."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from runtime import ActionCtx, AlreadyStarted, App, InvalidArgs, InvalidTime, MutationCtx, Namespace, NotStarted
from runtime.testing import Harness

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

hits: Namespace[Any] = Namespace("hits")


@hits.mutation
async def hit(ctx: MutationCtx, *, page: str) -> int:
    """Count a hit, and greet later."""
    await ctx.db.execute("INSERT INTO hits (page) VALUES (?)", [page])
    await ctx.scheduler.after(seconds=30).call(greet, page=page)
    return int(await ctx.db.fetch_value("SELECT count(*) FROM hits WHERE page = ?", [page]))


@hits.action
async def greet(ctx: ActionCtx, *, page: str) -> str:
    """Greet."""
    return f"hello {page}"


def make(db: str | Path = "unused.db", **options: Any) -> App:
    """Return an app with a table."""
    app = App(db, namespaces=[hits], **options)
    app.schema("CREATE TABLE hits (page TEXT NOT NULL)")
    return app


def fastapi(rt: App) -> Any:
    """Return a FastAPI app with one route."""
    api = FastAPI(lifespan=rt.lifespan)

    @api.post("/hit/{page}")
    async def route(page: str) -> dict[str, int]:
        return {"count": await rt.call(hit, page=page)}

    return api


def starlette(rt: App) -> Any:
    """Return the same as a Starlette app."""

    async def route(request: Any) -> JSONResponse:
        return JSONResponse({"count": await rt.call("hits:hit", {"page": request.path_params["page"]})})

    return Starlette(lifespan=rt.lifespan, routes=[Route("/hit/{page}", route, methods=["POST"])])


@asynccontextmanager
async def served(asgi: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run an ASGI app's lifespan as a server does, and give a client to it."""
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.3"}, "state": {}}
    life = asyncio.ensure_future(asgi(scope, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    assert await outbox.get() == {"type": "lifespan.startup.complete"}
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://app") as client:
            yield client
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        assert await outbox.get() == {"type": "lifespan.shutdown.complete"}
        await life


@pytest.mark.parametrize("embed", [fastapi, starlette])
async def test_an_app_lives_in_the_lifespan(tmp_path: Path, embed: Any) -> None:
    """Started by the lifespan, usable from routes, stopped at its end, and everything is there at the next start."""
    rt = make(tmp_path / "app.db")
    for life in (1, 2):
        async with served(embed(rt)) as client:
            assert rt.unready_reason is None
            answers = [(await client.post("/hit/a")).json() for _ in range(2)]
            assert answers == [{"count": 2 * life - 1}, {"count": 2 * life}]
            assert await rt.scheduler.list(fn=greet, state="pending").count() == 2 * life
        assert rt.unready_reason == "the app is not running"


@pytest.mark.parametrize("embed", [fastapi, starlette])
async def test_routes_work_on_the_harness(embed: Any) -> None:
    """Inside a harness the same routes run on virtual time, without a lifespan of their own."""
    rt = make()
    asgi = embed(rt)
    async with Harness(rt) as h:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://app") as client:
            assert (await client.post("/hit/b")).json() == {"count": 1}
        assert [job.result for job in await h.advance(30)] == ["hello b"]


async def test_a_start_that_fails_fails_the_servers_startup(tmp_path: Path) -> None:
    """When the app can't start, the server must be told, and nothing be left running."""
    rt = make(tmp_path / "no" / "such" / "folder.db", create=False)
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    said: list[dict[str, str]] = []

    async def send(message: dict[str, str]) -> None:
        said.append(message)

    await inbox.put({"type": "lifespan.startup"})
    with pytest.raises(Exception, match="folder") as caught:
        await starlette(rt)({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, inbox.get, send)
    assert [message["type"] for message in said] == ["lifespan.startup.failed"]
    assert len(str(caught.value).splitlines()) == 1
    assert rt.unready_reason == "the app is not running"


async def test_a_lifespan_may_be_nested_in_the_users_own(tmp_path: Path) -> None:
    """`async with rt.lifespan(app)` inside a lifespan of the user's must do the same."""
    rt = make(tmp_path / "app.db")

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncGenerator[None, None]:
        async with rt.lifespan(app):
            assert await rt.call(hit, page="start") == 1
            yield

    async with served(FastAPI(lifespan=own)):
        assert await rt.call(hit, page="start") == 2
    with pytest.raises(NotStarted):
        await rt.call(hit, page="start")


# ------------------------------------------------------------------ the wrong moment


async def test_nothing_works_before_the_start_or_after_the_end(tmp_path: Path) -> None:
    """Every use outside the app's life must raise NotStarted and say what to do; the handle may be taken early."""
    rt = make(tmp_path / "app.db")
    scheduler = rt.scheduler
    uses = (
        lambda: rt.call(hit, page="a"),
        lambda: rt.acting_as("ann").call("hits:hit", {"page": "a"}),
        lambda: rt.idempotent("k").call(hit, page="a"),
        lambda: scheduler.run_now("hits:hit", {"page": "a"}),
        lambda: scheduler.after(1).call(hit, page="a"),
        lambda: scheduler.run_many([hit.bind(page="a")]),
        lambda: scheduler.cancel("0" * 32),
        lambda: scheduler.get("0" * 32),
        lambda: scheduler.retry("0" * 32),
        lambda: scheduler.list().count(),
        lambda: scheduler.list().page(),
        lambda: scheduler.wait("0" * 32),
    )
    for _ in range(2):
        for use in uses:
            with pytest.raises(NotStarted, match="enter its lifespan first"):
                await use()
        async with rt:
            assert await scheduler.list().count() == 0


async def test_definitions_come_before_the_start(tmp_path: Path) -> None:
    """Including, declaring and starting a running app must be refused; after it stopped they are allowed again."""
    rt = make(tmp_path / "app.db")
    async with rt:
        for define in (
            lambda: rt.include(Namespace("late")), lambda: rt.namespace("late"), lambda: rt.schema("SELECT 1"),
        ):  # fmt: skip
            with pytest.raises(AlreadyStarted, match="comes before the app starts"):
                define()
        with pytest.raises(AlreadyStarted, match="is running already"):
            async with rt:
                raise AssertionError
        with pytest.raises(AlreadyStarted):
            async with Harness(rt):
                raise AssertionError
        assert await rt.call(hit, page="still works") == 1
    rt.namespace("late")


async def test_a_failed_start_can_be_repaired_and_repeated(tmp_path: Path) -> None:
    """A start that raised must leave the app as it was, so that a corrected one works."""
    rt = App(tmp_path / "app.db", namespaces=[hits])
    rt.schema("CREATE TABLE hits (page TEXT NOT NULL)", "CREATE TABLE broken (")
    with pytest.raises(Exception, match=r"incomplete|syntax"):
        async with rt:
            raise AssertionError
    rt._schema.pop()
    async with rt:
        assert await rt.call(hit, page="a") == 1


@pytest.mark.parametrize(
    ("db", "options", "error", "match"),
    [
        ("", {}, InvalidArgs, "is not the path of a file"),
        (":memory:", {}, InvalidArgs, "jobs must survive the process"),
        ("file:x?mode=memory", {}, InvalidArgs, "is not the path of a file"),
        ("sqlite:///x.db", {}, InvalidArgs, "is not the path of a file"),
        ("postgresql://localhost/x", {}, InvalidArgs, "PostgreSQL is not supported yet"),
        ("a.db", {"max_running_actions": 0}, InvalidArgs, "must be at least 1"),
        ("a.db", {"grace": -1}, InvalidTime, "grace must not be negative"),
        ("a.db", {"lock_timeout": float("nan")}, InvalidTime, "lock_timeout must be"),
    ],
)
def test_an_app_checks_its_options(db: str, options: dict[str, Any], error: type[Exception], match: str) -> None:
    """What can't work must be refused when the app is made, not when it starts."""
    with pytest.raises(error, match=match):
        App(db, **options)
