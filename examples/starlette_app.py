"""Starlette with a durable scheduler inside: functions in its own routes, the HTTP surface under /scheduler.

NOTES_DB=notes.db ACTOR_SCHEDULER_DEPLOY_KEY=… ACTOR_SCHEDULER_DISPATCH_SECRET=… uvicorn examples.starlette_app:api

/scheduler/rpc/notes:add is open to clients; the dashboard and the dispatch of the cron need their keys.
"""

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from runtime import App, MutationCtx, Namespace, QueryCtx

notes = Namespace("notes")


@notes.mutation(access="public")
async def add(ctx: MutationCtx, *, text: str) -> int:
    """Write a note down, to be looked at again in a second. Returns its number."""
    done = await ctx.db.execute("INSERT INTO notes (text) VALUES (?)", [text])
    note_id = done.lastrowid or 0
    await ctx.scheduler.after(seconds=1).call(review, note_id=note_id)  # exists exactly if the note does
    return note_id


@notes.mutation
async def review(ctx: MutationCtx, *, note_id: int) -> None:
    """Mark a note as looked at."""
    await ctx.db.execute("UPDATE notes SET reviewed = 1 WHERE id = ?", [note_id])


@notes.mutation
async def tidy(ctx: MutationCtx) -> int:
    """Forget what was looked at; returns how many."""
    return (await ctx.db.execute("DELETE FROM notes WHERE reviewed = 1")).rowcount


@notes.query(access="public")
async def recent(ctx: QueryCtx, *, limit: int = 20) -> list[dict[str, Any]]:
    """Return the newest notes."""
    return [dict(row) for row in await ctx.db.fetch_all("SELECT * FROM notes ORDER BY id DESC LIMIT ?", [limit])]


app = App(os.environ.get("NOTES_DB", "notes.db"), namespaces=[notes])
app.schema("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL, reviewed INTEGER NOT NULL DEFAULT 0)")
app.crons.cron("nightly", "0 3 * * *", "notes:tidy", clock="external")  # by POST /scheduler/schedules/nightly/dispatch


async def post_note(request: Request) -> JSONResponse:
    """Add a note; it is durable when this answers."""
    note = await request.json()
    return JSONResponse({"id": await app.call(add, text=note["text"])}, 201)


async def get_notes(request: Request) -> JSONResponse:
    """Show the newest notes."""
    return JSONResponse(await app.call(recent, limit=int(request.query_params.get("limit", "20"))))


api = Starlette(
    routes=[
        Route("/notes", post_note, methods=["POST"]),
        Route("/notes", get_notes),
        Mount("/scheduler", app=app.asgi()),
    ],
    lifespan=app.lifespan,
)
