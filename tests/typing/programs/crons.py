"""Crons: defined by the code, registered at run time, looked at, and what their runs are told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from typing_extensions import assert_type

from runtime import (
    ActionCtx,
    App,
    AppCrons,
    Cron,
    CronDiff,
    CronInfo,
    CronInvoker,
    CronJob,
    CronOptions,
    CronRun,
    Crons,
    Dispatched,
    Every,
    ManifestInfo,
    MutationCtx,
    Namespace,
    Schedule,
    Staged,
)
from runtime.testing import Harness
from tests.typing.programs.functions import notify, ping, publish

app = App("app.db", cron_activation="manual")
jobs = Namespace("jobs")

app.crons.cron("digest", "0 15 * * *", "mail:notify", {"post_id": 1}, tz="Europe/Paris", missed_tick_policy="latest")
app.crons.cron("call", "@daily", notify.bind(post_id=1), tz=ZoneInfo("UTC"), max_catch_up_age=None)
app.crons.interval("sweep", ping, minutes=15, overlap="queue", jitter=timedelta(seconds=5))
app.crons.hourly("hourly", ping, minute=30, jitter="30s", enabled=False)
app.crons.daily("daily", ping, at="03:00", max_catch_up_age="48h", max_catch_up_ticks=10)
app.crons.weekly("weekly", ping, at=time(3), day="mon", clock="external", description="for people")
app.crons.monthly("monthly", ping, at=time(3), day=31, jitter=5)
options: CronOptions = {"missed_tick_policy": "all", "max_catch_up_age": timedelta(days=7)}
app.crons.define_crons([
    CronJob("a", Cron("0 3 * * MON", tz="Asia/Tokyo"), ping, **options),
    CronJob("b", Every(timedelta(hours=2)), publish.bind(post_id=2)),
    CronJob("c", Every(hours=2), "mail:notify", {"post_id": 1}),
])  # fmt: skip


@app.crons.on("0 3 * * *")
@app.crons.on(Cron("0 4 * * *", tz="Europe/Paris"), name="again", overlap="allow")
@jobs.action
async def nightly(ctx: ActionCtx, *, full: bool = False) -> int:
    """A function under two crons; it stays what it was."""
    invoker = ctx.invoker
    if invoker.source == "cron":
        assert_type(invoker, CronInvoker)
        assert_type(invoker.cron, str)
        assert_type(invoker.scheduled_at, datetime)
        assert_type(invoker.catch_up_window, tuple[datetime, datetime] | None)
        return invoker.skipped_ticks
    await everywhere(ctx.crons)
    return int(full)


@jobs.mutation
async def remind_daily(ctx: MutationCtx, *, user_id: int) -> None:
    """Crons are part of a mutation's transaction; a user's reminder is a cron of its own."""
    assert_type(ctx.crons, Crons)
    await ctx.crons.register(f"reminder/{user_id}", Cron("0 9 * * *"), notify.bind(post_id=user_id), jitter=60)
    await ctx.crons.register(f"other/{user_id}", Every(minutes=5), "mail:notify", {"post_id": user_id})
    await everywhere(ctx.crons)


async def everywhere(crons: Crons) -> None:
    """The same handle in a mutation, in an action and on the app."""
    schedule: Schedule = Every(hours=1)
    await crons.update("a", schedule=schedule)
    await crons.update("a", target=ping, overlap="skip", enabled=True)
    assert_type(await crons.delete("a"), bool)
    await crons.pause("a", note="why")
    await crons.resume("a")
    assert_type(await crons.run_now("a"), str)
    assert_type(await crons.run_now("a", scheduled_at=datetime.now(UTC)), str)
    assert_type(await crons.next_ticks("a", 10), Sequence[datetime])
    assert_type(await crons.runs("a", limit=10), Sequence[CronRun])
    for run in await crons.runs():
        if run.state == "skipped" and run.reason == "policy":
            assert_type(run.skipped, int)
    info = await crons.get("a")
    assert_type(info, CronInfo | None)
    if info is not None:
        assert_type(info.next_at, datetime | None)
    async for each in crons.list(prefix="reminder/"):
        assert_type(each, CronInfo)


async def on_the_app() -> None:
    """What only the app has: the definitions' versions, and an outside clock."""
    assert_type(app.crons, AppCrons)
    await everywhere(app.crons)
    assert_type(app.crons.staged, Staged | None)
    assert_type(await app.crons.manifests(), Sequence[ManifestInfo])
    assert_type(await app.crons.activate(1), CronDiff)
    assert_type(await app.crons.dispatch("weekly", nominal=0), Dispatched)
    assert_type(await nightly(ctx_of_nobody(), full=True), int)
    async with Harness(app) as h:
        assert_type(h.crons, AppCrons)


def ctx_of_nobody() -> ActionCtx:
    """Return what a type checker takes for a ctx."""
    raise NotImplementedError
