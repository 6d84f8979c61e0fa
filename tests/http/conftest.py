"""A small app, its surface, and clients that hold one key each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from runtime import ActionCtx, App, FunctionError, Http, MutationCtx, Namespace, QueryCtx, Secrets
from runtime.http.guard import cookie_name
from runtime.testing import Harness

OPERATE = "operate-7nVq2LxZp0aYtR4uWc8sEe1dKfGhJm"
READ = "read-Zk3Xv9Qb5Nw7Ht1Ly6Rm8Pc2Sd4FgTjUa"
DISPATCH = "dispatch-Bq8Wm2Xc5Vn7Za1Ls3Kd9Jf4Hg6Pt"
NEXT = "dispatch-next-Yt5Re8Wq2Uj4Ik7Ol1Pz3Xc6Vb9N"


def make_app(path: str = "app.db", **options: Any) -> App[Any]:
    """Return an app with one function of each sort, a pool, and crons of both clocks."""
    notes = Namespace("notes")

    @notes.query(access="public")
    async def count(ctx: QueryCtx[Any]) -> int:
        """Count the notes."""
        return int(await ctx.db.fetch_value("SELECT count(*) FROM notes"))

    @notes.mutation(access="public")
    async def add(ctx: MutationCtx[Any], *, text: str, times: int = 1) -> int:
        """Write a note down, and return its number."""
        for _ in range(times):
            done = await ctx.db.execute("INSERT INTO notes (text) VALUES (?)", [text])
        return int(done.lastrowid or 0)

    @notes.mutation
    async def prune(ctx: MutationCtx[Any]) -> int:
        return (await ctx.db.execute("DELETE FROM notes")).rowcount

    @notes.mutation(access="system")
    async def compact(ctx: MutationCtx[Any]) -> str:
        return "compacted"

    @notes.action(access="public", pool="mail")
    async def send(ctx: ActionCtx[Any], *, to: str = "ada") -> str:
        return f"sent to {to}"

    @notes.action
    async def fail(ctx: ActionCtx[Any], *, message: str = "no luck", code: str | None = None) -> None:
        if code is not None:
            raise FunctionError(code, message, {"message": message})
        raise RuntimeError(message)

    @notes.mutation(access="public")
    async def refuse(ctx: MutationCtx[Any], *, code: str, message: str = "refused") -> None:
        raise FunctionError(code, message, {"why": message})

    @notes.query(access="public")
    async def broken(ctx: QueryCtx[Any]) -> None:
        raise RuntimeError("secret inside")

    app = App[Any](path, namespaces=[notes], **options)
    app.schema("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    app.pool("mail", 2)
    app.crons.interval("sweep", "notes:prune", minutes=5)
    app.crons.cron("digest/paris", "0 8 * * *", "notes:send", {"to": "paris"}, tz="Europe/Paris")
    app.crons.cron("outside/hourly", "0 * * * *", "notes:prune", clock="external")
    return app


def make_http(**options: Any) -> Http:
    """Return the doors: all open, each with its own secret."""
    doors: dict[str, Any] = {
        "operate": Secrets(OPERATE, what="the deploy key"),
        "read": Secrets(READ, what="the read key"),
        "dispatch": Secrets(DISPATCH, what="the dispatch secret"),
    }
    return Http(**{**doors, **options})


def cookie_at(host: str, scheme: str = "http", mount: str = "") -> str:
    """Return the name of a session's cookie on a host."""
    headers = [(b"host", host.encode())]
    return cookie_name(
        Request(
            {"type": "http", "scheme": scheme, "path": "/", "root_path": mount, "query_string": b"", "headers": headers}
        )
    )


@dataclass
class Site:
    """A running app in virtual time, its surface, and a way to make clients."""

    app: App[Any]
    harness: Harness[Any]
    http: Http
    asgi: Any

    def client(self, key: str | None = OPERATE, **options: Any) -> httpx.AsyncClient:
        """Return a client that shows this key; None shows none."""
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        transport = httpx.ASGITransport(app=self.asgi, raise_app_exceptions=True)
        return httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=headers, **options)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """The small app with all doors open. Its crons tick only when time is advanced."""
    app = make_app()
    http = make_http()
    async with Harness(app) as harness:
        yield Site(app, harness, http, app.asgi(http=http))


@pytest.fixture
async def operator(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the deploy key."""
    async with site.client(OPERATE) as client:
        yield client


@pytest.fixture
async def reader(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the read key."""
    async with site.client(READ) as client:
        yield client


@pytest.fixture
async def clock_outside(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the dispatch secret."""
    async with site.client(DISPATCH) as client:
        yield client


@pytest.fixture
async def anybody(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A client without any key."""
    async with site.client(None) as client:
        yield client
