"""Crons on what can't be one, options that do not exist, and crons where there are none."""

from __future__ import annotations

from runtime import ActionCtx, App, Cron, CronJob, Every, MutationCtx, QueryCtx
from tests.typing.programs.functions import notify, ping, publish, titles

app = App("app.db")
print(App("app.db", cron_activation="never"))  # error: call-overload, reportArgumentType

app.crons.cron("a", "* * * * *", notify)  # error: arg-type, reportArgumentType
app.crons.cron("a", "* * * * *", titles)  # error: arg-type, reportArgumentType
app.crons.cron("a", "* * * * *", notify.bind(post=1))  # error: call-arg, reportCallIssue
app.crons.cron("a", Every(hours=1), ping)  # error: arg-type, reportArgumentType
app.crons.cron("a", "* * * * *", ping, zone="UTC")  # error: call-arg, reportCallIssue
app.crons.cron("a", "* * * * *", ping, overlap="never")  # error: arg-type, reportArgumentType
app.crons.interval("a", ping, days=1)  # error: call-arg, reportCallIssue
app.crons.interval("a", publish, hours=1)  # error: arg-type, reportArgumentType
app.crons.daily("a", ping)  # error: call-arg, reportCallIssue
app.crons.daily("a", ping, at=3)  # error: arg-type, reportArgumentType
app.crons.weekly("a", ping, at="03:00")  # error: call-arg, reportCallIssue
app.crons.define_crons([CronJob("a", 60, ping)])  # error: arg-type, reportArgumentType
app.crons.define_crons([CronJob("a", Every(hours=1), notify)])  # error: arg-type, reportArgumentType
app.crons.define_crons(CronJob("a", Every(hours=1), ping))  # error: arg-type, reportArgumentType
print(Cron("* * * * *", zone="UTC"))  # error: call-arg, reportCallIssue
print(Every(days=1))  # error: call-arg, reportCallIssue


app.crons.on("@daily")(notify)  # error: type-var, reportArgumentType
app.crons.on("@daily")(titles)  # error: type-var, reportArgumentType


async def of_query(ctx: QueryCtx) -> None:
    """A query has no crons."""
    await ctx.crons.get("a")  # error: attr-defined, reportAttributeAccessIssue


async def of_mutation(ctx: MutationCtx) -> None:
    """A schedule is a value, and a call is awaited."""
    ctx.crons.delete("a")  # error: unused-coroutine, reportUnusedCoroutine
    await ctx.crons.register("a", 60, ping)  # error: arg-type, reportArgumentType
    await ctx.crons.register("a", Every(hours=1), notify)  # error: arg-type, reportArgumentType
    await ctx.crons.update("a", overlaps="skip")  # error: call-arg, reportCallIssue
    await ctx.crons.activate(1)  # error: attr-defined, reportAttributeAccessIssue


async def of_action(ctx: ActionCtx) -> None:
    """Definitions are the app's, and an invoker says what it is before it is asked."""
    ctx.crons.cron("a", "* * * * *", ping)  # error: attr-defined, reportAttributeAccessIssue
    print(ctx.invoker.skipped_ticks)  # error: union-attr, reportAttributeAccessIssue
