"""The functions of the crash test's app. Each leaves a trace of every time it really ran."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from actor_scheduler.model import JobOptions
from runtime import ActionCtx, App, AuthRequest, Call, FunctionError, MutationCtx, Namespace, Retry
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


def wall_us() -> int:
    """Return the wall clock in microseconds."""
    return time.time_ns() // 1_000


def make_app(db: str, starts: str, *, auth: bool, hurried: bool = False, **options: Any) -> App[Any]:
    """Make the app. Starts of actions go to the file `starts`; with `auth` due mutations are prepared on the loop.

    In a hurried one no action sleeps for longer than usual.
    """
    fd = os.open(starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record(line: bytes) -> None:
        os.write(fd, line)
        os.fsync(fd)

    global _record_start, _nap_us_max
    _record_start = record
    _nap_us_max = _NAP_US if hurried else None
    if auth:
        options["auth"] = _nobody
    app: App[Any] = App(db, namespaces=[crash], **options)
    app.schema(SCHEMA)
    app.pool(POOL, 10)
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
    await _nap(ctx, told)
    if told.deadly:
        os._exit(DEADLY)
    if told.fail or attempt <= told.flaky:
        raise FunctionError("PLANNED", "this action was told to fail")
    return 1


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
