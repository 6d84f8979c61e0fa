"""The functions of the simulated app. Each leaves a trace of every time it really ran."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from actor_scheduler.crons.definition import CronJob
from actor_scheduler.crons.schedule import Cron, Every
from runtime import ActionCtx, App, AuthRequest, Call, FunctionError, MutationCtx, Namespace, QueryCtx, Retry
from tests.proof.checker import PAUSE_US
from tests.proof.history import Body, CronTrace, plain
from tests.proof.ticks import When

if TYPE_CHECKING:
    from tests.simulation.options import Options
    from tests.simulation.world import World

sim: Namespace[Any] = Namespace("sim")
rated: Namespace[Any] = Namespace("rated")  # apart: a rate has a price at every start

# No primary key on `op`: an effect applied twice must show as two rows. The deferred reference is for the commit.
SCHEMA: Final = """
CREATE TABLE kinds (name TEXT PRIMARY KEY) STRICT;
INSERT INTO kinds VALUES ('live'), ('job');
CREATE TABLE effects (
    n INTEGER PRIMARY KEY, op TEXT NOT NULL, job TEXT, kind TEXT NOT NULL REFERENCES kinds DEFERRABLE INITIALLY DEFERRED,
    at_us INTEGER NOT NULL, attempt INTEGER NOT NULL, turn INTEGER NOT NULL
) STRICT;
CREATE TABLE cron_effects (
    cron TEXT NOT NULL, job TEXT NOT NULL, attempt INTEGER NOT NULL, at_us INTEGER NOT NULL,
    scheduled_at_us INTEGER NOT NULL, occurrence_id TEXT NOT NULL
) STRICT;
"""
_INSERT: Final = "INSERT INTO effects (op, job, kind, at_us, attempt, turn) VALUES (?, ?, ?, ?, ?, ?)"

_INSERT_RUN: Final = (
    "INSERT INTO cron_effects (cron, job, attempt, at_us, scheduled_at_us, occurrence_id) VALUES (?, ?, ?, ?, ?, ?)"
)

POOL: Final = 2
_HOUR_US: Final = 3_600_000_000
_APART: Final = {
    "none": (When(20_000_000), When(0, "* * * * *")),
    "seconds": (When(20_000_000), When(0, "*/2 * * * *")),
    "hours": (When(_HOUR_US), When(0, "20 */2 * * *", "America/New_York")),
    "months": (When(7 * 24 * _HOUR_US), When(0, "30 2 * * SUN", "America/New_York")),
    "years": (When(30 * 24 * _HOUR_US), When(0, "0 0 1 * *", "Europe/Paris")),
}


world: World = None  # type: ignore[assignment]  # the one that is being simulated; given by it


def make_app(db: str, options: Options) -> App[Any]:
    """Make an app on this file; with `auth` due mutations are prepared on the loop."""
    namespaces = [sim, rated] if options.rated else [sim]
    given: Any = {"namespaces": namespaces, "max_running_actions": options.slots, "synchronous": "OFF"}
    app: App[Any] = App(db, auth=_nobody, **given) if options.auth else App(db, **given)
    app.schema(SCHEMA)
    app.pool("pool", POOL)
    app.crons.define_crons(cron.job for cron in crons_of(options))
    return app


class CronPlan(NamedTuple):
    """A cron of the app, as the checker and as the app knows it."""

    when: When
    path: str
    job: CronJob


def crons_of(options: Options) -> list[CronPlan]:
    """Return the crons of a seed: the same in all its lives. Their ticks are as far apart as the rest of its work."""
    rng = random.Random(f"crons {options.seed}")
    found = []
    for number in range(options.crons):
        when, path = rng.choice(_APART[options.spread]), rng.choice(("sim:cron_tick", "sim:cron_beat"))
        schedule: Any = Every(timedelta(microseconds=when.every_us)) if when.every_us else Cron(when.expr, tz=when.tz)
        chosen: Any = {
            "missed_tick_policy": rng.choice(("latest", "all", "skip")), "max_catch_up_ticks": rng.choice((1, 3, 6)),
            "overlap": rng.choice(("skip", "queue", "allow")), "jitter": rng.choice((None, CRON_JITTER_US / 1_000_000)),
            "max_catch_up_age": rng.choice((None, "48h")),
        }  # fmt: skip
        found.append(CronPlan(when, path, CronJob(f"cron {number}", schedule, path, **chosen)))
    return found


async def _nobody(request: AuthRequest) -> None:
    del request


def call_of(body: Body) -> Call[Any]:
    """Return the call that runs a body, without its moment."""
    if body.light:
        link = tick if body.kind == "mutation" else beat
        return link.bind(op=body.op, left=body.chain, every_us=body.every_us)
    return (work if body.kind == "mutation" else _ACTIONS[body.place]).bind(body=plain(body))


def options_of(body: Body) -> dict[str, Any]:
    """Return the options with which a body is scheduled."""
    options: dict[str, Any] = {}
    if body.attempts > 1:
        options["retry"] = Retry(body.attempts, base=PAUSE_US / 1_000_000)
    if body.timeout_us:
        options["timeout"] = body.timeout_us / 1_000_000
    if body.lane is not None:
        options["lane"] = body.lane
    if body.priority:
        options["priority"] = body.priority
    return options


def calls_of(bodies: Iterable[Body]) -> list[Call[Any]]:
    """Return calls that run these bodies, each at its moment."""
    return [call_of(body).after(body.delay_us / 1_000_000, **options_of(body)) for body in bodies]


def _trace(op: str, ctx: Any) -> tuple[Any, ...]:
    invoker = ctx.invoker
    job: str | None = getattr(invoker, "job_id", None)
    kind = "live" if job is None else "job"
    return op, job, kind, world.clock.high_us(), getattr(invoker, "attempt", 1), world.turns


@sim.mutation
async def work(ctx: MutationCtx, *, body: dict[str, Any]) -> dict[str, Any]:
    """Leave one effect row; schedule, nest and cancel as told; raise at the end if told to."""
    told = Body.of(body)
    trace = _trace(told.op, ctx)
    world.note_mutation(told, ctx.invoker)
    await ctx.db.execute(_INSERT, trace)
    ids = []
    for child in told.children[:1]:
        ids.append(await ctx.scheduler.run_after(child.delay_us / 1_000_000, call_of(child), **options_of(child)))
    ids.extend(await ctx.scheduler.run_many(calls_of(told.children[1:])))
    if told.nested is not None:
        try:
            await ctx.run_mutation(work, body=plain(told.nested))
        except FunctionError as error:
            ids.extend(error.data["ids"] if error.data else ())
    canceled = told.cancel is not None and await ctx.scheduler.cancel(told.cancel)
    if trace[4] <= told.fails:
        raise FunctionError("PLANNED", "this mutation was told to fail", {"ids": ids})
    world.runs += 1  # makes each execution's result its own: a resend must get the first one's
    return {"ran": world.runs, "canceled": canceled}


async def _act(ctx: ActionCtx, told: Body) -> int:
    """Record the start outside the database; then write, schedule, nap and fail as told."""
    with world.running(told.op, ctx.invoker, told) as attempt:
        if told.writes:
            await ctx.run_mutation(work, body=plain(told.inner))
        for child in told.children:
            await ctx.scheduler.run_after(child.delay_us / 1_000_000, call_of(child), **options_of(child))
        if told.nap_us:
            await ctx.sleep(told.nap_us / 1_000_000)
        if attempt <= told.fails:
            raise FunctionError("PLANNED", "this action was told to fail")
    return 1


@sim.action
async def act(ctx: ActionCtx, *, body: dict[str, Any]) -> int:
    """Do what it is told; bounded by the app's slots alone."""
    return await _act(ctx, Body.of(body))


@sim.action(pool="pool")
async def act_pool(ctx: ActionCtx, *, body: dict[str, Any]) -> int:
    """Do what it is told; bounded by its pool."""
    return await _act(ctx, Body.of(body))


@sim.action(concurrency=1)
async def act_single(ctx: ActionCtx, *, body: dict[str, Any]) -> int:
    """Do what it is told; one at a time."""
    return await _act(ctx, Body.of(body))


@rated.action(rate="3/10s")
async def act_rate(ctx: ActionCtx, *, body: dict[str, Any]) -> int:
    """Do what it is told; so many in a while."""
    return await _act(ctx, Body.of(body))


_ACTIONS: Final = {"": act, "pool": act_pool, "single": act_single, "rate": act_rate}


_LIGHT: Final = Body("", light=True)
CRON_ATTEMPTS: Final = 2
CRON_JITTER_US: Final = 5_000_000


def _cron_trace(ctx: Any) -> CronTrace:
    told = ctx.invoker
    said = (told.scheduled_at_us, told.occurrence_id)
    return CronTrace(told.cron, told.job_id, told.attempt, world.clock.high_us(), *said)


@sim.mutation(retry=Retry(CRON_ATTEMPTS, base=PAUSE_US / 1_000_000))
async def cron_tick(ctx: MutationCtx) -> None:
    """Leave one effect row; some fail at first."""
    trace = _cron_trace(ctx)
    await ctx.db.execute(_INSERT_RUN, trace)
    if trace.attempt == 1 and int(trace.job, 16) % 4 == 0:
        raise FunctionError("PLANNED", "this run was told to fail")


@sim.action(retry=Retry(CRON_ATTEMPTS, base=PAUSE_US / 1_000_000))
async def cron_beat(ctx: ActionCtx) -> None:
    """Record the start; some take a while."""
    trace = _cron_trace(ctx)
    world.history.crons.starts.append(trace)
    world.record("cron", *trace)
    if int(trace.job, 16) % 3 == 0:
        await ctx.sleep(3)


@sim.mutation
async def tick(ctx: MutationCtx, *, op: str, left: int, every_us: int) -> None:
    """Leave one effect row, and schedule the next link of the chain."""
    await ctx.db.execute(_INSERT, _trace(f"{op}.{left}", ctx))
    if left:
        await ctx.scheduler.run_after(every_us / 1_000_000, tick.bind(op=op, left=left - 1, every_us=every_us))


@sim.action
async def beat(ctx: ActionCtx, *, op: str, left: int, every_us: int) -> None:
    """Record the start, and schedule the next link of the chain."""
    with world.running(f"{op}.{left}", ctx.invoker, _LIGHT):
        if left:
            await ctx.scheduler.run_after(every_us / 1_000_000, beat.bind(op=op, left=left - 1, every_us=every_us))


@sim.query
async def count(ctx: QueryCtx) -> int:
    """Return how many effects there are."""
    found: int = await ctx.db.fetch_value("SELECT count(*) FROM effects")
    return found
