"""What simulated crons run. Each run leaves its trace, and says what it was told of itself."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

from runtime import ActionCtx, App, FunctionError, MutationCtx, Namespace, Retry
from runtime.invoker import CronInvoker
from tests.simulation.cron_watch import Op

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actor_scheduler.crons.definition import CronJob
    from tests.simulation.cron_world import CronWorld

year: Namespace[Any] = Namespace("year")

SCHEMA: Final = """
CREATE TABLE effects (n INTEGER PRIMARY KEY, job TEXT NOT NULL, occurrence TEXT NOT NULL, attempt INTEGER NOT NULL) STRICT;
"""
SHAKY: Final = Retry(3, base=30)
FLAKY: Final = Retry(4, base=20, jitter=0.0)

world: CronWorld = None  # type: ignore[assignment]  # the one that is being simulated; given by it


def make_app(db: str, crons: Iterable[CronJob], *, manual: bool) -> App[Any]:
    """Make an app on this file that defines these crons."""
    app: App[Any] = App(db, namespaces=[year], synchronous="OFF", cron_activation="manual" if manual else "automatic")
    app.schema(SCHEMA)
    app.crons.define_crons(crons)
    return app


def chance(text: str, most: int) -> int:
    """Return a number below `most` that a text decides on."""
    return zlib.crc32(text.encode()) % most


async def _trace(ctx: MutationCtx) -> CronInvoker:
    told = ctx.invoker
    assert isinstance(told, CronInvoker)
    world.ran(told)
    await ctx.db.execute(
        "INSERT INTO effects (job, occurrence, attempt) VALUES (?, ?, ?)",
        [told.job_id, told.occurrence_id, told.attempt],
    )
    return told


@year.mutation
async def quick(ctx: MutationCtx, *, n: int) -> int:
    """Leave an effect."""
    await _trace(ctx)
    return n


@year.mutation(retry=SHAKY)
async def shaky(ctx: MutationCtx, *, n: int) -> int:
    """Leave an effect; some fail at first, and some for good."""
    told = await _trace(ctx)
    if told.attempt <= chance(told.job_id, 5):
        raise FunctionError("PLANNED", "this mutation was told to fail")
    return n


@year.mutation
async def leaver(ctx: MutationCtx, *, n: int) -> int:
    """Leave an effect; some take their own cron away, or pause it, and some of these think better of it."""
    told = await _trace(ctx)
    choice = chance(told.job_id, 8)
    if choice > 2:
        return n
    there = await ctx.crons.get(told.cron)
    if there is None:
        return n
    seq = int(told.job_id[:16], 16)
    op = Op("pause" if there.origin == "manifest" else "delete", told.cron, own_seq=seq)
    await (ctx.crons.pause(told.cron) if op.do == "pause" else ctx.crons.delete(told.cron))
    if choice == 0:
        raise FunctionError("PLANNED", "it stays after all")
    world.body_ops.append(op)
    return n


@year.action
async def slow(ctx: ActionCtx, *, n: int) -> int:
    """Take a while, some longer than a tick."""
    told = ctx.invoker
    assert isinstance(told, CronInvoker)
    with world.running(told):
        await ctx.sleep(world.plan.apart_us / 1_000_000 * (0.0, 0.3, 0.9, 2.5)[chance(told.job_id, 4)])
    return n


@year.action(retry=FLAKY)
async def flaky(ctx: ActionCtx, *, n: int) -> int:
    """Fail at first, some for good."""
    told = ctx.invoker
    assert isinstance(told, CronInvoker)
    with world.running(told):
        if chance(told.job_id, 2):
            await ctx.sleep(3)
        if told.attempt <= chance(told.job_id, 6):
            raise FunctionError("PLANNED", "this action was told to fail")
    return n


@year.mutation
async def many(ctx: MutationCtx, *, fails: bool) -> None:
    """Ask for many things at once; all of them come true, or none."""
    for op, ask in world.wishes:
        await ask(ctx.crons)
        world.body_ops.append(op)
    if fails:
        world.body_ops.clear()
        raise FunctionError("PLANNED", "none of it")
