"""Jobs over HTTP, for operators: look at them, schedule, cancel, retry, drop and promote them, one or many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from actor_scheduler.job_list import ROWS_MAX
from actor_scheduler.limits import KEY_CHARS_MAX, TEXT_CHARS_MAX
from actor_scheduler.model import TERMINAL, Cause, OnConflict, State
from actor_scheduler.options import check_key
from actor_scheduler.retry import Backoff, Retry
from actor_scheduler.times import to_datetime
from runtime.http import documents
from runtime.http.answers import Problem, answer
from runtime.http.asked import Body, Cursor, Limit, Moment, Path, Query, Span, audited, instant, no_such, span
from runtime.http.confirmation import Confirmations, Intent
from runtime.http.plain import moment
from runtime.http.routes import Route
from runtime.invoker import AdminInvoker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.responses import Response

    from actor_scheduler.job_list import JobList
    from actor_scheduler.model import JobOptions, Mark
    from runtime.app_scheduler import AppScheduler
    from runtime.http.routes import Visit

_CONFIRMATIONS: Final = Confirmations()  # this process's

Key = Annotated[str, Field(min_length=1, max_length=KEY_CHARS_MAX)]


class Which(Query):
    """Which jobs: every part that is given must match."""

    state: State | None = None
    function: Key | None = None
    key: Key | None = None
    cause: Cause | None = None
    lane: Key | None = None
    cron: Key | None = None
    text: Annotated[str, Field(min_length=1, max_length=TEXT_CHARS_MAX)] | None = None

    def given(self) -> dict[str, str]:
        """Return the parts that are given."""
        return {name: value for name in Which.model_fields if (value := getattr(self, name)) is not None}


class JobsAsked(Which):
    """A page of jobs."""

    limit: Limit = 100
    cursor: Cursor | None = None


class RetryAsked(Body):
    """How often a job is tried, and with which pauses, as `Retry` has it."""

    max_attempts: int = 5
    backoff: Backoff = "exponential"
    base: Span = 1
    factor: float = 2.0
    max_delay: Span = 3600
    jitter: float = 0.1

    def policy(self) -> Retry:
        """Return the policy. Raises InvalidArgs."""
        return Retry(
            self.max_attempts,
            backoff=self.backoff,
            base=span(self.base, "base"),
            factor=self.factor,
            max_delay=span(self.max_delay, "max_delay"),
            jitter=self.jitter,
        )


class NewJobAsked(Body):
    """A job to be scheduled: for now, `in` some time, or `at` a moment."""

    path: Path
    args: dict[str, Any] = Field(default_factory=dict)
    in_: Span | None = Field(default=None, alias="in", description='"5m", "1h30m", or seconds')
    at: Moment | None = Field(default=None, description="ISO 8601 with Z or an offset, or epoch seconds")
    key: str | None = None
    on_conflict: OnConflict | None = None
    idempotency_key: str | None = None
    lane: str | None = None
    priority: int | None = None
    timeout: Span | None = Field(default=None, description='"5m", or seconds')
    retry: int | RetryAsked | None = None

    def options(self) -> JobOptions:
        """Return the options that are given. Raises InvalidArgs."""
        names = ("key", "on_conflict", "idempotency_key", "lane", "priority")
        chosen: Any = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.timeout is not None:
            chosen["timeout"] = span(self.timeout, "timeout")
        if self.retry is not None:
            chosen["retry"] = self.retry.policy() if isinstance(self.retry, RetryAsked) else self.retry
        given: JobOptions = chosen
        return given


class CancelAsked(Body):
    """How to cancel."""

    running: bool = False


class BulkAsked(Body):
    """What to do to many jobs, and, in the second request, what the first one answered to be confirmed."""

    action: Literal["cancel", "retry", "drop"]
    filter: Which
    confirm: str | None = None


class CallAsked(Body):
    """A call."""

    path: Path
    args: dict[str, Any] = Field(default_factory=dict)
    idempotency_key: str | None = None


# ------------------------------------------------------------------ looking


def _listed(visit: Visit, which: Which) -> JobList:
    """Return the jobs that match. Raises Problem (403) for a search that would tell what is hidden."""
    if which.text is not None and not visit.sees_arguments:
        # What a search finds tells what it looked into, and it looks into arguments.
        msg = "a search looks into arguments, which this key may not see; function, key, lane and the like are open"
        raise Problem(403, "FORBIDDEN", msg)
    return _list(visit.served.scheduler, which, which.state)


def _list(scheduler: AppScheduler, which: Which, state: State | None) -> JobList:
    return scheduler.list(
        fn=which.function,
        state=state,
        key=which.key,
        cause=which.cause,
        lane=which.lane,
        cron=which.cron,
        text=which.text,
    )


async def list_jobs(visit: Visit) -> Response:
    """Answer a page of jobs, the newest first."""
    asked: JobsAsked = visit.query
    found = await _listed(visit, asked).page(cursor=asked.cursor, limit=asked.limit)
    return answer(documents.page(found, documents.job_row))


async def count_jobs(visit: Visit) -> Response:
    """Answer how many jobs match, and whether all could be looked at."""
    count, complete = await _listed(visit, visit.query).count_up_to(ROWS_MAX)
    return answer({"count": count, "complete": complete})


async def get_job(visit: Visit) -> Response:
    """Answer everything that is known of a job."""
    job_id = visit.request.path_params["id"]
    scheduler = visit.served.scheduler
    job = await scheduler.get(job_id)
    if job is None:
        raise no_such("job", job_id)
    attempts = await scheduler.failed_attempts(job_id)
    return answer(documents.job_whole(job, attempts, hidden=not visit.sees_arguments))


# ------------------------------------------------------------------ one job


async def schedule_job(visit: Visit) -> Response:
    """Schedule a job, and answer its id."""
    asked: NewJobAsked = visit.body
    scheduler = visit.served.scheduler
    with audited(visit, "schedule", asked.path) as outcome:
        if asked.in_ is not None and asked.at is not None:
            raise Problem(400, "INVALID_BODY", "in and at exclude each other")
        options = asked.options()
        if asked.at is not None:
            job_id = await scheduler.run_at(instant(asked.at, "at"), asked.path, asked.args, **options)
        else:
            delay = span(asked.in_, "in") if asked.in_ is not None else 0
            job_id = await scheduler.run_after(delay, asked.path, asked.args, **options)
        outcome.result = job_id
    return answer({"id": job_id}, 201)


async def cancel_job(visit: Visit) -> Response:
    """Cancel a job; with `running`, also one that runs."""
    running = visit.body.running
    return await _steer(visit, "cancel", lambda job_id: visit.served.scheduler.cancel(job_id, running=running))


async def retry_job(visit: Visit) -> Response:
    """Make a failed job pending again."""
    return await _steer(visit, "retry", visit.served.scheduler.retry)


async def drop_job(visit: Visit) -> Response:
    """Forget a job that has ended."""
    return await _steer(visit, "drop", visit.served.scheduler.drop)


async def promote_job(visit: Visit) -> Response:
    """Make a pending job due now."""
    return await _steer(visit, "promote", visit.served.scheduler.promote)


async def _steer(visit: Visit, action: str, step: Callable[[str], Awaitable[bool]]) -> Response:
    job_id = visit.request.path_params["id"]
    with audited(visit, action, job_id) as outcome:
        changed = await step(job_id)
        if not changed and await visit.served.scheduler.get(job_id) is None:
            raise no_such("job", job_id)
        outcome.result = "changed" if changed else "not changed"
    return answer({"changed": changed})


async def call_function(visit: Visit) -> Response:
    """Run a function now, and answer what it returned."""
    asked: CallAsked = visit.body
    assert visit.who is not None
    with audited(visit, "call", asked.path):
        if asked.idempotency_key is not None:
            check_key(asked.idempotency_key, "idempotency_key")
        invoker = AdminInvoker(operator=visit.who.key_id)
        result = await visit.served.call(asked.path, asked.args, invoker, asked.idempotency_key)
    return answer(documents.call_result(result))


# ------------------------------------------------------------------ many jobs

# The states of the jobs that an action changes; it leaves all others alone.
_CHANGES: Final[dict[str, Sequence[State]]] = {
    "cancel": ("pending",),
    "retry": ("failed",),
    "drop": tuple(sorted(TERMINAL)),
}


async def change_jobs(visit: Visit) -> Response:
    """Count what would be changed, and answer a token; with the token, change it, unless it would be more by now.

    What is counted and changed are jobs that were there when they were counted: those that come later are left alone.
    """
    asked: BulkAsked = visit.body
    assert visit.who is not None
    scheduler, now_us = visit.served.scheduler, visit.served.clock().now_us
    given = asked.filter.given()
    intent = Intent(asked.action, given, visit.who.key_id)
    if asked.confirm is None:
        mark = await scheduler.list().mark()
        count = await _changeable(scheduler, asked, mark)
        token, ends_us = _CONFIRMATIONS.give(intent, count, mark, now_us())
        return answer({"count": count, "confirm": token, "expires_at": moment(to_datetime(ends_us))})
    target = " ".join(f"{name}={value}" for name, value in given.items()) or "all"
    with audited(visit, f"{asked.action} many", target) as outcome:
        confirmed = _CONFIRMATIONS.look(asked.confirm, intent, now_us())
        if (
            confirmed is None
            or await _changeable(scheduler, asked, confirmed.mark) > confirmed.jobs
            or not _CONFIRMATIONS.use(asked.confirm, intent, now_us())
        ):
            count = await _changeable(scheduler, asked, await scheduler.list().mark())
            told = f"what was confirmed does not hold, or not any more; now {count} jobs match: count and confirm again"
            raise Problem(409, "CONFIRMATION_STALE", told, {"count": count})
        changed = sum([await _change(asked.action, jobs) for jobs in _affected(scheduler, asked, confirmed.mark)])
        outcome.result = f"changed {changed}"
    return answer({"changed": changed})


def _affected(scheduler: AppScheduler, asked: BulkAsked, mark: Mark) -> Sequence[JobList]:
    """Return the jobs that match and that the action changes."""
    which = asked.filter
    states = [state for state in _CHANGES[asked.action] if which.state in {None, state}]
    return [_list(scheduler, which, state).until(mark) for state in states]


async def _changeable(scheduler: AppScheduler, asked: BulkAsked, mark: Mark) -> int:
    """Return how many jobs the action would change, exactly. Raises Problem (400) when too many had to be searched."""
    affected = _affected(scheduler, asked, mark)
    if asked.filter.text is None:
        return sum([await jobs.count() for jobs in affected])
    total = 0
    for jobs in affected:
        count, complete = await jobs.count_up_to(ROWS_MAX)
        if not complete:
            told = f"over {ROWS_MAX} jobs would have to be searched; narrow the filter by function, state, key or lane"
            raise Problem(400, "FILTER_TOO_WIDE", told)
        total += count
    return total


async def _change(action: str, jobs: JobList) -> int:
    match action:
        case "cancel":
            return await jobs.cancel()
        case "retry":
            return await jobs.retry()
        case _:
            return await jobs.drop()


_NO_JOB: Final = {404: "there is no such job"}
_CHANGED: Final = {200: "whether that changed the job", **_NO_JOB}

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET", path="/admin/jobs", door="read", handler=list_jobs, query=JobsAsked,
        summary="List jobs, the newest first",
        answers={200: "a page of jobs; with a text it may be short though there is another"},
    ),
    Route(
        method="POST", path="/admin/jobs", door="operate", handler=schedule_job, body=NewJobAsked,
        summary="Schedule a job",
        answers={201: "the job's id", 404: "there is no such function", 409: "its key is taken"},
    ),
    Route(
        method="GET", path="/admin/jobs/count", door="read", handler=count_jobs, query=Which, summary="Count jobs",
        answers={200: "how many match, and whether all were looked at"},
    ),
    Route(
        method="POST", path="/admin/jobs/bulk", door="operate", handler=change_jobs, body=BulkAsked,
        summary="Cancel, retry or drop all jobs that match, after a confirmation",
        answers={
            200: "the count and a token that confirms it; with the token, how many were changed",
            409: "it is not what was confirmed, more jobs match by now, or the token was used",
        },
    ),
    Route(
        method="GET", path="/admin/jobs/{id}", door="read", handler=get_job, summary="Show a job",
        answers={200: "all that is known of it", **_NO_JOB},
    ),
    Route(
        method="POST", path="/admin/jobs/{id}/cancel", door="operate", handler=cancel_job, body=CancelAsked,
        summary="Cancel a job", answers=_CHANGED,
    ),
    Route(
        method="POST", path="/admin/jobs/{id}/retry", door="operate", handler=retry_job, summary="Retry a failed job",
        answers={**_CHANGED, 409: "another unfinished job has its key"},
    ),
    Route(
        method="POST", path="/admin/jobs/{id}/drop", door="operate", handler=drop_job,
        summary="Forget a job that has ended", answers=_CHANGED,
    ),
    Route(
        method="POST", path="/admin/jobs/{id}/promote", door="operate", handler=promote_job,
        summary="Make a pending job due now", answers=_CHANGED,
    ),
    Route(
        method="POST", path="/admin/call", door="operate", handler=call_function, body=CallAsked,
        summary="Run any function now",
        answers={200: "what it returned", 404: "there is no such function", 504: "it took too long"},
    ),
)  # fmt: skip
