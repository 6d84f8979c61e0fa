"""The functions of the crash test's app. Each leaves a trace of every time it really ran."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from actor_scheduler.clock import SystemClock
from actor_scheduler.model import JobOptions
from runtime import ActionCtx, App, AuthRequest, Call, FunctionError, MutationCtx, Namespace, Retry
from tests.crash import crons
from tests.crash.cron_history import AT
from tests.crash.history import PAUSE_PART, PAUSE_US, Body, plain

crash = Namespace("crash")

# No primary key on `op`: an effect applied twice must show as two rows. The foreign key gives foreign_key_check work.
SCHEMA = """
CREATE TABLE kinds (name TEXT PRIMARY KEY) STRICT;
INSERT INTO kinds VALUES ('live'), ('job');
CREATE TABLE effects (
    op TEXT NOT NULL, job TEXT, kind TEXT NOT NULL REFERENCES kinds, at_us INTEGER NOT NULL, padding BLOB NOT NULL
) STRICT;
"""

_PADDING = 1_500  # bytes per effect: the log grows past the automatic checkpoint within one file's lives
POOL = "side"  # of the actions that are forgotten soon
DEADLY = 9  # the exit status of a life that a deadly job ended
_NAP_US = 5_000
_BRIEFLY = timedelta(milliseconds=1)
_record_start: Callable[[bytes], None] | None = None
_nap_us_max: int | None = None
_ahead_us = 0


def wall_us() -> int:
    """Return the wall clock in microseconds, as the app has it."""
    return time.time_ns() // 1_000 + _ahead_us


class Ahead(SystemClock):
    """A clock that is ahead of the real one, so that lives which follow each other have an outage between them."""

    def now_us(self) -> int:
        """Return what this clock shows."""
        return wall_us()


def make_app(
    db: str,
    starts: str,
    *,
    auth: bool,
    hurried: bool = False,
    manifest: int | None = None,
    ahead_us: int = 0,
    **options: Any,
) -> App[Any]:
    """Make the app. Starts of actions go to the file `starts`; with `auth` due mutations are prepared on the loop.

    In a hurried one no action sleeps for longer than usual.  `manifest` is the version of its crons; without one it
    leaves those alone that the file has.
    """
    fd = os.open(starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record(line: bytes) -> None:
        os.write(fd, line)
        os.fsync(fd)

    global _record_start, _nap_us_max, _ahead_us
    _record_start = record
    _ahead_us = ahead_us
    if ahead_us:
        options["clock"] = Ahead()
    _nap_us_max = _NAP_US if hurried else None
    if auth:
        options["auth"] = _nobody
    options["cron_activation"] = "manual" if manifest is None else "automatic"
    app: App[Any] = App(db, namespaces=[crash], **options)
    app.schema(SCHEMA)
    app.pool(POOL, 10)
    if manifest is not None:
        app.crons.define_crons([defined.job() for defined in crons.manifest(manifest)])
    return app


async def _nobody(request: AuthRequest) -> None:
    del request


def call_of(body: Body) -> Call[Any]:
    """Return the call that runs a body, without its moment and its options."""
    if body.kind == "mutation":
        return (work_briefly if body.brief else work).bind(body=plain(body))
    return (act_briefly if body.brief else act).bind(body=plain(body))


def options_of(body: Body) -> JobOptions:
    """Return the options a body is scheduled with."""
    options: JobOptions = {}
    if body.tries > 1:
        options["retry"] = Retry(body.tries, base=PAUSE_US / 1_000_000, factor=1.0, jitter=PAUSE_PART)
    if body.lane is not None:
        options["lane"] = body.lane
    if body.timeout_us:
        options["timeout"] = body.timeout_us / 1_000_000
    return options


def calls_of(bodies: Iterable[Body]) -> list[Call[Any]]:
    """Return calls that run these bodies, each at its moment."""
    return [call_of(body).after(body.delay_us / 1_000_000, **options_of(body)) for body in bodies]


@crash.mutation
async def work(ctx: MutationCtx, *, body: dict[str, Any]) -> dict[str, Any]:
    """Leave one effect row; schedule, nest and cancel as told; raise at the end if told to."""
    return await _work(ctx, Body.of(body))


@crash.mutation(keep=_BRIEFLY)
async def work_briefly(ctx: MutationCtx, *, body: dict[str, Any]) -> dict[str, Any]:
    """Do the same, and be forgotten soon after."""
    return await _work(ctx, Body.of(body))


async def _work(ctx: MutationCtx, told: Body) -> dict[str, Any]:
    job: str | None = getattr(ctx.invoker, "job_id", None)
    await ctx.db.execute(
        "INSERT INTO effects VALUES (?, ?, ?, ?, ?)",
        (told.op, job, "live" if job is None else "job", wall_us(), bytes(_PADDING)),
    )
    ids = [
        await ctx.scheduler.run_after(child.delay_us / 1_000_000, call_of(child), **options_of(child))
        for child in told.children[:1]
    ]
    ids.extend(await ctx.scheduler.run_many(calls_of(told.children[1:])))
    if told.nested is not None:
        try:
            await ctx.run_mutation(work, body=plain(told.nested))
        except FunctionError as error:
            ids.extend(error.data["ids"] if error.data else ())
    canceled = told.cancel is not None and await ctx.scheduler.cancel(told.cancel)
    if told.registers is not None:
        await _register(ctx, told.registers)
    if told.deadly:
        os._exit(DEADLY)
    if told.fail or _attempt(ctx.invoker) <= told.flaky:
        raise FunctionError("PLANNED", "this mutation was told to fail", {"ids": ids})
    # The process and the moment make each execution's result its own: a resend must get the first one's.
    return {"ran": f"{os.getpid()}-{wall_us()}", "canceled": canceled}


@crash.action
async def act(ctx: ActionCtx, *, body: dict[str, Any]) -> int:
    """Record the start outside the database; then write, schedule and fail as told."""
    return await _act(ctx, Body.of(body))


@crash.action(keep=_BRIEFLY, pool=POOL)
async def act_briefly(ctx: ActionCtx, *, body: dict[str, Any]) -> int:
    """Do the same, and be forgotten soon after."""
    return await _act(ctx, Body.of(body))


async def _act(ctx: ActionCtx, told: Body) -> int:
    assert _record_start is not None
    job, attempt = getattr(ctx.invoker, "job_id", "live"), _attempt(ctx.invoker)
    _record_start(f"{told.op} {job} {wall_us()} {attempt}\n".encode())
    if told.writes:
        await ctx.run_mutation(work, body=plain(told.inner))
    for child in told.children:
        await ctx.scheduler.run_after(child.delay_us / 1_000_000, call_of(child), **options_of(child))
    if told.registers is not None:
        await _register(ctx, told.registers)
    await _nap(ctx, told)
    if told.deadly:
        os._exit(DEADLY)
    if told.fail or attempt <= told.flaky:
        raise FunctionError("PLANNED", "this action was told to fail")
    return 1


@crash.mutation
async def tick(ctx: MutationCtx, *, name: str) -> None:
    """Leave one effect row for the tick of a cron; delete the cron, if its name says so."""
    await ctx.db.execute(
        "INSERT INTO effects VALUES (?, ?, 'job', ?, x'')",
        (_op(ctx, name), getattr(ctx.invoker, "job_id", None), wall_us()),
    )
    if name.endswith(crons.ONCE):
        await ctx.crons.delete(name)


@crash.action
async def tock(ctx: ActionCtx, *, name: str) -> None:
    """Record, outside the database, that the run of a cron's tick has started."""
    assert _record_start is not None
    job = getattr(ctx.invoker, "job_id", "live")
    _record_start(f"{_op(ctx, name)} {job} {wall_us()} {_attempt(ctx.invoker)}\n".encode())
    await ctx.sleep(_NAP_US / 1_000_000)


def _op(ctx: MutationCtx | ActionCtx, name: str) -> str:
    """Return a name for what a run was told: its cron and its tick; one by hand has none."""
    at_us = getattr(ctx.invoker, "scheduled_at_us", 0) if ctx.invoker.source == "cron" else ""
    return f"{name}{AT}{at_us}"


async def _register(ctx: MutationCtx | ActionCtx, name: str) -> None:
    every, target, args, options = crons.registered(name)
    await ctx.crons.register(name, every, target, args, **options)


def _attempt(invoker: object) -> int:
    return getattr(invoker, "attempt", 1)


async def _nap(ctx: ActionCtx, told: Body) -> None:
    nap_us = told.nap_us if _nap_us_max is None else min(told.nap_us, _nap_us_max)
    while True:
        try:
            await ctx.sleep(nap_us / 1_000_000)
        except asyncio.CancelledError:  # to have been asked is not to have ended
            if not told.stubborn_us:
                raise
            nap_us = told.stubborn_us
        else:
            return
