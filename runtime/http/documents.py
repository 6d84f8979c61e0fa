"""Jobs, crons and what becomes of them as documents of the administration: plain values that JSON carries. Pure.

Times are ISO 8601 in UTC with microseconds, spans are seconds and their names end in `_seconds`.  A document that hides
something has the same names in it, with null, and says so in `hidden`.
"""

from __future__ import annotations

import inspect
import json
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from actor_scheduler import codec
from actor_scheduler.crons.schedule import Cron
from actor_scheduler.crons.wall import zone_of
from actor_scheduler.limits import SECOND_US
from runtime.http.plain import moment, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime, tzinfo

    from actor_scheduler.crons.records import CronDiff, CronInfo, CronRun, ManifestInfo
    from actor_scheduler.crons.schedule import Schedule
    from actor_scheduler.model import FailedAttempt, Job, Page
    from actor_scheduler.queues import Rate
    from actor_scheduler.settings import PoolInfo
    from runtime.functions import Function
    from runtime.http.audit import Deed
    from runtime.maintenance import Report

Document: TypeAlias = dict[str, Any]
T = TypeVar("T")


# ------------------------------------------------------------------ jobs


def job_row(job: Job) -> Document:
    """Return a job as a list shows it: nothing of its arguments, and nothing of what it returned."""
    return {
        "id": job.id,
        "path": job.path,
        "kind": job.kind,
        "state": job.state,
        "cause": job.cause,
        "error": job.error,
        "attempt": job.attempt,
        "key": job.key,
        "lane": job.lane,
        "priority": job.priority,
        "cron": job.cron,
        "parent_id": job.parent_id,
        "scheduled_at": moment(job.scheduled_at),
        "fire_at": moment(job.fire_at),
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "completed_at": moment(job.completed_at),
    }


def job_whole(job: Job, attempts: Sequence[FailedAttempt], *, hidden: bool) -> Document:
    """Return everything that is known of a job; hidden: without arguments, result, error data and traceback."""
    return {
        **job_row(job),
        "hidden": hidden,
        "args": None if hidden else plain(job.args),
        "args_error": job.args_error,
        "result": None if hidden else plain(job.result),
        "result_truncated": job.result_truncated,
        "error_code": job.error_code,
        "error_data": None if hidden else plain(job.error_data),
        "traceback": None if hidden else job.traceback,
        "idempotency_key": job.idempotency_key,
        "occurrence_id": job.occurrence_id,
        "attempts": [_attempt(each) for each in attempts],
    }


def _attempt(attempt: FailedAttempt) -> Document:
    return {
        "attempt": attempt.attempt,
        "started_at": moment(attempt.started_at),
        "ended_at": moment(attempt.ended_at),
        "cause": attempt.cause,
        "error": attempt.error,
    }


def call_result(value: Any) -> Document:
    """Return what a function returned when it was called: as it would be kept on a job where JSON can't carry it."""
    try:
        shown = plain(value)
        json.dumps(shown)  # an integer of thousands of digits has a form, and no text
    except (TypeError, ValueError, RecursionError):
        stored, truncated = codec.encode_result(value)
        return {"result": None if stored is None else plain(codec.decode(stored)), "result_truncated": truncated}
    return {"result": shown, "result_truncated": False}


# ------------------------------------------------------------------ crons


def cron(info: CronInfo, *, hidden: bool) -> Document:
    """Return how a cron stands; hidden: without its arguments."""
    return {
        "name": info.name,
        "schedule": schedule(info.schedule),
        "path": info.path,
        "args": None if hidden else plain(info.args),
        "hidden": hidden,
        "next_at": moment(info.next_at),
        "accounted_to": moment(info.accounted_to),
        "anchored_at": moment(info.anchored_at),
        "paused": info.paused,
        "note": info.note,
        "origin": info.origin,
        "trouble": info.trouble,
        "enabled": info.enabled,
        "clock": info.clock,
        "missed_tick_policy": info.missed_tick_policy,
        "max_catch_up_ticks": info.max_catch_up_ticks,
        "max_catch_up_age_seconds": _seconds(info.max_catch_up_age),
        "overlap": info.overlap,
        "jitter_seconds": _seconds(info.jitter),
        "description": info.description,
    }


def schedule(when: Schedule | None) -> Document | None:
    """Return a schedule as it may also be said in a definition."""
    if when is None:
        return None
    if isinstance(when, Cron):
        return {"cron": when.expr, "tz": when.tz}
    return {"every_seconds": _seconds(timedelta(microseconds=when.every_us))}


def cron_run(run: CronRun) -> Document:
    """Return what became of a tick, or of a stretch of ticks."""
    return {
        "cron": run.cron,
        "tick": moment(run.tick),
        "first_tick": moment(run.first_tick),
        "state": run.state,
        "reason": run.reason,
        "ticks": run.ticks,
        "skipped": run.skipped,
        "manual": run.manual,
        "job_id": run.job_id,
        "attempts": run.attempts,
        "started_at": moment(run.started_at),
        "duration_seconds": _seconds(run.duration),
        "lag_seconds": _seconds(run.lag),
        "error": run.error,
        "result_bytes": run.result_bytes,
    }


def preview(name: str, when: Schedule | None, ticks: Sequence[datetime]) -> Document:
    """Return the next ticks of a cron, in UTC and on the wall clock of its own zone, with the offset from UTC."""
    zone: tzinfo = zone_of(when.tz) if isinstance(when, Cron) else UTC
    return {
        "name": name,
        "ticks": [moment(tick) for tick in ticks],
        "local": [tick.astimezone(zone).isoformat(timespec="seconds") for tick in ticks],
    }


def diff(changes: CronDiff) -> Document:
    """Return what an activation changed, or would change."""
    return {name: list(names) for name, names in changes._asdict().items()}


def manifest(info: ManifestInfo, changes: CronDiff | None = None) -> Document:
    """Return one version of the definitions; of one that waits, what its activation changes."""
    return {
        "diff": diff(changes) if changes is not None else None,
        "version": info.version,
        "digest": info.digest,
        "state": info.state,
        "crons": list(info.crons),
        "staged_at": moment(info.staged_at),
        "activated_at": moment(info.activated_at),
    }


# ------------------------------------------------------------------ the rest of an app


def function(fn: Function[..., Any], arguments: Document) -> Document:
    """Return a registered function: what it is called, who may call it, what it takes, and how its jobs run."""
    policy = fn.policy
    return {
        "path": fn.path,
        "kind": fn.kind,
        "access": fn.access,
        "aliases": list(fn.aliases),
        "description": inspect.cleandoc(fn.__doc__ or ""),
        "arguments": arguments,
        "pool": policy.pool,
        "concurrency": policy.concurrency,
        "rate": None if policy.rate is None else _rate(policy.rate),
        "timeout_seconds": None if policy.timeout_us is None else policy.timeout_us / SECOND_US,
        "max_attempts": 1 if policy.retry is None else policy.retry.max_attempts,
    }


def _rate(rate: Rate) -> str:
    """Return a rate as it is written in a decorator."""
    seconds = rate.period_us // SECOND_US
    unit, size = next((unit, size) for unit, size in (("h", 3600), ("m", 60), ("s", 1)) if seconds % size == 0)
    many = seconds // size
    return f"{rate.starts}/{unit}" if many == 1 else f"{rate.starts}/{many}{unit}"


def pool(info: PoolInfo, declared: int) -> Document:
    """Return a pool as it stands: the limit that holds, the one that the code declares, and how many run."""
    return {"name": info.name, "limit": info.limit, "declared": declared, "running": info.running}


def report(found: Report) -> Document:
    """Return what an examination of the file found."""
    return {
        "ok": found.ok,
        "problems": [{"gravity": each.severity, "text": each.what, "advice": each.do} for each in found.problems],
        "facts": dict(found.facts),
        "jobs": dict(found.jobs),
    }


def deed(done: Deed) -> Document:
    """Return one entry of the audit trail."""
    return {
        "at": moment(done.at),
        "who": done.who,
        "via": done.via,
        "peer": done.peer,
        "action": done.action,
        "target": done.target,
        "result": done.result,
        "request_id": done.request_id,
    }


def page(found: Page[T], document: Callable[[T], Document]) -> Document:
    """Return one page of a list."""
    return {"items": [document(each) for each in found.items], "next_cursor": found.next_cursor}


def items(documents: Iterable[Document]) -> Document:
    """Return a list that has no pages."""
    return {"items": list(documents)}


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
