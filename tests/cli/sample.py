"""Apps for the commands that load code: one that is well, and one that has everything wrong."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from runtime import App, Cron, CronJob, Every, MutationCtx, Namespace

print("loaded")  # standard output is the command's, not the module's

work = Namespace[Any]("work")


@work.mutation
async def note(ctx: MutationCtx, *, text: str = "", tags: list[str] | None = None) -> None:
    """Note it."""


app = App[Any]("sample.db", namespaces=[work])
app.schema("CREATE TABLE notes (id INTEGER PRIMARY KEY)")
app.crons.define_crons([
    CronJob("hourly", Cron("0 * * * *", tz="Europe/Paris"), "work:note", {"text": "é", "tags": ["a"]}),
    CronJob("often", Every(seconds=1.5), "work:note", jitter="1s", overlap="queue", max_catch_up_age=None),
    CronJob("outside", Cron("0 0 * * *"), "work:note", clock="external", description="by a clock outside"),
    CronJob("off", Every(minutes=1), "work:note", enabled=False, missed_tick_policy="all", max_catch_up_ticks=7),
])  # fmt: skip

api = FastAPI(lifespan=app.lifespan)

broken = Namespace[Any]("broken")


@broken.mutation
async def unknown_type(ctx: MutationCtx, *, what: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Take something that does not exist."""


@broken.action(pool="undeclared")
async def pooled(ctx: Any) -> None:
    """Wait in a pool that nobody declares."""


bad = App[Any]("bad.db", namespaces=[broken])
bad.schema("CREATE TABLE x (id INTEGER")
bad.crons.cron("ghost", "0 * * * *", "broken:ghost")
bad.crons.cron("args", "0 * * * *", "broken:pooled", {"no": 1})
