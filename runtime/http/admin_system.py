"""The app as a whole over HTTP, for operators: figures, functions, pools, pauses, backups, the audit trail."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from actor_scheduler import __version__
from actor_scheduler.limits import SECOND_US
from actor_scheduler.settings import POOL, POOL_LIMIT_MAX
from actor_scheduler.times import to_datetime
from runtime.http import documents
from runtime.http.answers import answer
from runtime.http.asked import Body, Limit, Named, Query, audited, no_such
from runtime.http.openapi import arguments_schema
from runtime.http.plain import moment
from runtime.http.routes import Route
from runtime.maintenance import doctor

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.responses import Response

    from actor_scheduler.model import Overview, Upcoming
    from actor_scheduler.settings import PoolInfo
    from runtime.http.documents import Document
    from runtime.http.routes import Visit
    from runtime.http.served import Served

RUNNING_SHOWN: Final = 50
FAILURES_SHOWN: Final = 20


class UpcomingAsked(Query):
    """What starts next."""

    limit: Limit = 50


class AuditAsked(Query):
    """The newest deeds."""

    limit: Limit = 100


class PauseAsked(Body):
    """A pause of everything."""

    note: str = "paused"


class PoolAsked(Named):
    """The limit of a pool; null for the one that the code declares, 0 for none of its actions."""

    limit: Annotated[int, Field(ge=0, le=POOL_LIMIT_MAX)] | None


# ------------------------------------------------------------------ looking


async def show_me(visit: Visit) -> Response:
    """Answer who is asking, and what answers."""
    assert visit.who is not None
    return answer({
        "role": visit.who.role,
        "key_id": visit.who.key_id,
        "via": visit.who.via,
        "name": visit.served.db.name,
        "version": __version__,
        "now": moment(visit.served.now()),
    })  # fmt: skip


async def show_stats(visit: Visit) -> Response:
    """Answer the figures of a first look: what waits, what runs, what failed, how fast it all goes."""
    served = visit.served
    scheduler = served.scheduler
    overview = await scheduler.overview()
    running = await scheduler.list(state="in_progress").page(limit=RUNNING_SHOWN)
    failures = await scheduler.list(state="failed").page(limit=FAILURES_SHOWN)
    return answer({
        **_life(served),
        **_waiting(overview, served),
        "running": [documents.job_row(job) for job in running.items],
        "failures": [documents.job_row(job) for job in failures.items],
        "crons": {"total": overview.crons, "paused": overview.crons_paused, "troubled": overview.crons_troubled},
        "database": await asyncio.to_thread(_sizes, served.db),
        **_pace(served),
    })  # fmt: skip


def _life(served: Served) -> Document:
    reason = served.unready_reason
    return {
        "now": moment(served.now()),
        "version": __version__,
        "ready": reason is None,
        "unready_reason": reason,
        "paused": served.scheduler.paused,
    }


def _waiting(overview: Overview, served: Served) -> Document:
    oldest = overview.oldest_due_at
    return {
        "jobs": {
            "pending": overview.pending,
            "due": overview.due,
            "in_progress": overview.in_progress,
            "failed": overview.failed,
            "ended": overview.ended,
        },
        "oldest_due_at": moment(oldest),
        "lag_seconds": 0.0 if oldest is None else max((served.now() - oldest).total_seconds(), 0.0),
    }


def _pace(served: Served) -> Document:
    """Return what this process has counted since it started the app."""
    engine, now_us = served.engine(), served.clock().now_us()
    recent, loop_lag_us = engine.meter.recent(), engine.loop_lag.ask()
    return {
        "started_at": moment(to_datetime(engine.began_us)),
        "uptime_seconds": max(now_us - engine.began_us, 0) / SECOND_US,
        "throughput": [
            {
                "minute": moment(to_datetime(minute.at_us)),
                "success": minute.success,
                "failed": minute.failed,
                "canceled": minute.canceled,
                "retried": minute.retried,
            }
            for minute in engine.meter.minutes(now_us)
        ],
        "latency": {
            "start_lag_p50_seconds": _seconds(recent.start_lag_p50_us),
            "start_lag_p99_seconds": _seconds(recent.start_lag_p99_us),
            "commit_p50_seconds": _seconds(recent.commit_p50_us),
            "commit_p99_seconds": _seconds(recent.commit_p99_us),
            "batch_mean": recent.batch_mean,
            "loop_lag_seconds": _seconds(loop_lag_us),
        },
        "listeners": len(engine.feed),
    }


def _seconds(span_us: float | None) -> float | None:
    return None if span_us is None else span_us / SECOND_US


def _sizes(db: Path) -> Document:
    """Return how large the database is, and how much room is left."""

    def size(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError:
            return 0

    try:
        free: int | None = shutil.disk_usage(db.resolve().parent).free
    except OSError:
        free = None
    return {"bytes": size(db), "wal_bytes": size(db.with_name(f"{db.name}-wal")), "disk_free_bytes": free}


async def list_upcoming(visit: Visit) -> Response:
    """Answer what starts next, jobs and crons, the earliest first."""
    found = await visit.served.scheduler.upcoming(limit=visit.query.limit)
    return answer(documents.items(map(_upcoming, found)))


def _upcoming(entry: Upcoming) -> Document:
    return {
        "kind": entry.kind,
        "at": moment(entry.at),
        "path": entry.path,
        "id": entry.id,
        "cron": entry.cron,
        "key": entry.key,
    }


async def list_functions(visit: Visit) -> Response:
    """Answer every registered function, with the schema of its arguments."""
    functions = list(visit.served.functions())
    return answer(documents.items(documents.function(function, arguments_schema(function)) for function in functions))


async def examine(visit: Visit) -> Response:
    """Answer what an examination of the database finds. It looks, and changes nothing."""
    found = await asyncio.to_thread(doctor, visit.served.db, clock=visit.served.clock())
    return answer(documents.report(found))


async def list_deeds(visit: Visit) -> Response:
    """Answer who did what, the newest first."""
    return answer(documents.items(map(documents.deed, visit.trail.latest(visit.query.limit))))


# ------------------------------------------------------------------ pools and pauses


async def list_pools(visit: Visit) -> Response:
    """Answer every pool, by name."""
    served = visit.served
    return answer(documents.items(_pool(served, info) for info in served.scheduler.pools()))


async def set_pool(visit: Visit) -> Response:
    """Set the limit of a pool, and answer how the pool stands."""
    asked: PoolAsked = visit.body
    served = visit.served
    with audited(visit, "set pool", asked.name) as outcome:
        if not any(info.name == asked.name for info in served.scheduler.pools()):
            raise no_such("pool", asked.name)
        await served.scheduler.set_pool(asked.name, asked.limit)
        outcome.result = f"limit {asked.limit if asked.limit is not None else 'as declared'}"
    return answer(next(_pool(served, info) for info in served.scheduler.pools() if info.name == asked.name))


def _pool(served: Served, info: PoolInfo) -> Document:
    declared = served.engine().routing.gates[POOL + info.name]
    assert isinstance(declared, int)
    return documents.pool(info, declared)


async def pause_all(visit: Visit) -> Response:
    """Start no job any more, until resumed."""
    asked: PauseAsked = visit.body
    with audited(visit, "pause", "all"):
        await visit.served.scheduler.pause(asked.note)
    return answer({"paused": visit.served.scheduler.paused})


async def resume_all(visit: Visit) -> Response:
    """Start jobs again."""
    with audited(visit, "resume", "all"):
        await visit.served.scheduler.resume()
    return answer({"paused": visit.served.scheduler.paused})


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET", path="/admin/me", door="read", handler=show_me, summary="Show who is asking",
        answers={200: "the role of the key, and what answers"},
    ),
    Route(
        method="GET", path="/admin/stats", door="read", handler=show_stats, summary="Show the figures of a first look",
        answers={200: "what waits, runs and failed, and how fast it goes"},
    ),
    Route(
        method="GET", path="/admin/upcoming", door="read", handler=list_upcoming, query=UpcomingAsked,
        summary="List what starts next", answers={200: "jobs and crons, the earliest first"},
    ),
    Route(
        method="GET", path="/admin/functions", door="read", handler=list_functions, summary="List the functions",
        answers={200: "every function, with the schema of its arguments"},
    ),
    Route(
        method="GET", path="/admin/pools", door="read", handler=list_pools, summary="List the pools",
        answers={200: "every pool, by name"},
    ),
    Route(
        method="POST", path="/admin/pools", door="operate", handler=set_pool, body=PoolAsked,
        summary="Set the limit of a pool", answers={200: "how it stands", 404: "there is no such pool"},
    ),
    Route(
        method="POST", path="/admin/pause", door="operate", handler=pause_all, body=PauseAsked,
        summary="Start no job any more", answers={200: "the note of the pause that holds"},
    ),
    Route(
        method="POST", path="/admin/resume", door="operate", handler=resume_all, summary="Start jobs again",
        answers={200: "no pause holds"},
    ),
    Route(
        method="GET", path="/admin/doctor", door="read", handler=examine, summary="Examine the database",
        answers={200: "what was found"},
    ),
    Route(
        method="GET", path="/admin/audit", door="operate", handler=list_deeds, query=AuditAsked,
        summary="List who did what, the newest first", answers={200: "the last deeds of this process"},
    ),
)  # fmt: skip
