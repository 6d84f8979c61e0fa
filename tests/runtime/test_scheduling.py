"""Scheduling: every way to name a moment, what a job remembers, and every option that is refused."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.limits import AHEAD_US_MAX
from actor_scheduler.times import After
from runtime import ActionCtx, Call, InvalidArgs, InvalidTime, MutationCtx, Namespace

if TYPE_CHECKING:
    from runtime import Scheduler
    from runtime.testing import Harness
    from tests.runtime.conftest import Start

START = datetime(2026, 1, 1, tzinfo=UTC)

jobs: Namespace[Any] = Namespace("jobs")


@jobs.mutation
async def note(ctx: MutationCtx, *, what: str = "") -> str:
    """A mutation that says when it ran."""
    assert ctx.invoker.source == "scheduler"
    return f"{what}{(ctx.now - START).total_seconds():g}"


@jobs.action
async def act(ctx: ActionCtx, *, what: str = "") -> str:
    """An action that says when it ran."""
    return f"{what}{(ctx.now - START).total_seconds():g}"


@jobs.mutation
async def from_mutation(ctx: MutationCtx, *, way: str) -> str:
    """Schedule inside a mutation."""
    return await WAYS[way][0](ctx.scheduler)


@jobs.action
async def from_action(ctx: ActionCtx, *, way: str) -> str:
    """Schedule inside an action."""
    return await WAYS[way][0](ctx.scheduler)


# Each way to schedule, with the seconds after START at which it must run and the seconds that were asked.
WAYS: dict[str, tuple[Any, float, float]] = {
    "run_after seconds": (lambda s: s.run_after(30, "jobs:note"), 30, 30),
    "run_after float": (lambda s: s.run_after(0.25, "jobs:note"), 0.25, 0.25),
    "run_after timedelta": (lambda s: s.run_after(timedelta(minutes=1), "jobs:act"), 60, 60),
    "run_after bound": (lambda s: s.run_after(5, note.bind(what="")), 5, 5),
    "run_after zero": (lambda s: s.run_after(0, "jobs:act"), 0, 0),
    "run_at datetime": (lambda s: s.run_at(START + timedelta(hours=1), "jobs:note"), 3600, 3600),
    "run_at other zone": (
        lambda s: s.run_at(datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=2))), "jobs:note"), 3600, 3600,
    ),
    "run_at epoch": (lambda s: s.run_at(START.timestamp() + 7, "jobs:act"), 7, 7),
    "run_at past": (lambda s: s.run_at(START - timedelta(days=1), "jobs:note"), 0, -86400),
    "run_at past action": (lambda s: s.run_at(START - timedelta(days=1), "jobs:act"), 0, -86400),
    "run_at bound": (lambda s: s.run_at(START + timedelta(seconds=2), act.bind()), 2, 2),
    "run_now": (lambda s: s.run_now("jobs:note", {"what": ""}), 0, 0),
    "run_now bound": (lambda s: s.run_now(act.bind(what="")), 0, 0),
    "after call": (lambda s: s.after(3).call(note), 3, 3),
    "after parts": (
        lambda s: s.after(1, weeks=1, days=1, hours=1, minutes=1, seconds=1.5).call(note), 694_862.5, 694_862.5,
    ),
    "after timedelta": (lambda s: s.after(timedelta(seconds=4)).call(act), 4, 4),
    "after nothing": (lambda s: s.after().call(act), 0, 0),
    "at call": (lambda s: s.at(START + timedelta(seconds=9)).call(note, what=""), 9, 9),
    "now call": (lambda s: s.now().call(note), 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["app", "mutation", "action"])
async def test_every_way_to_schedule_runs_at_its_moment(start: Start, way: str, place: str) -> None:
    """From the app, a mutation and an action alike: the job runs at its moment, once, and remembers what was asked."""
    h = await start(jobs)
    make, runs_at, asked_at = WAYS[way]
    job_id = await make(h.scheduler) if place == "app" else await h.call(f"jobs:from_{place}", {"way": way})
    ended = [] if runs_at else list(await h.settle())
    if runs_at:
        assert await h.advance(runs_at - 0.000_001) == []
        ended = list(await h.advance(0.000_001))
    assert [(job.id, job.state, job.result) for job in ended] == [(job_id, "success", f"{runs_at:g}")]
    assert ended[0].scheduled_at == START + timedelta(seconds=asked_at)
    assert ended[0].created_at == START
    assert ended[0].started_at == ended[0].completed_at == START + timedelta(seconds=runs_at)
    assert ended[0].attempt == 1
    assert ended[0].occurrence_id == job_id
    assert await h.advance(days=30) == []


async def test_a_pending_job_shows_what_was_asked(start: Start) -> None:
    """A job that has not run yet must show its function, arguments and times, and nothing of a run."""
    h = await start(jobs)
    job_id = await h.scheduler.run_after(30, "jobs:act", {"what": "x"}, key="k", idempotency_key="i")
    job = await h.scheduler.get(job_id)
    assert job is not None
    assert (job.id, job.path, job.kind, job.state, job.args) == (job_id, "jobs:act", "action", "pending", {"what": "x"})
    assert (job.key, job.idempotency_key, job.attempt, job.occurrence_id) == ("k", "i", 0, job_id)
    assert (job.scheduled_at, job.created_at) == (START + timedelta(seconds=30), START)
    assert (job.started_at, job.completed_at, job.cause, job.error, job.result) == (None,) * 5
    assert (job.result_truncated, job.parent_id, job.args_error) == (False, None, None)


async def test_an_absent_id_is_data_not_an_error(start: Start) -> None:
    """Looking up, canceling and retrying what is not there must say so without raising."""
    h = await start(jobs)
    real = await h.scheduler.run_after(9, "jobs:act")
    for job_id in ("", "x", "0" * 32, "f" * 32, real[:-1], real.upper() + "0", "é" * 32, real[:16] + "0" * 16):
        assert await h.scheduler.get(job_id) is None
        assert await h.scheduler.cancel(job_id) is False
        assert await h.scheduler.retry(job_id) is False
        with pytest.raises(InvalidArgs, match="there is no job"):
            await h.scheduler.wait(job_id)
    assert len(await h.pending()) == 1


# ------------------------------------------------------------------ refusals


BAD_DELAYS = [-1, -0.001, timedelta(microseconds=-1), math.nan, math.inf, True, "30", 6 * 366 * 86_400, b"1", 1j]
BAD_INSTANTS = [
    datetime(2026, 1, 2), math.nan, -math.inf, True, -1, "2026-01-02", START.timestamp() * 1000,
    START + timedelta(microseconds=AHEAD_US_MAX + 1), START.date(), timedelta(1),
]  # fmt: skip


@pytest.mark.parametrize("place", ["app", "mutation", "action"])
async def test_wrong_times_are_refused_and_store_nothing(start: Start, place: str) -> None:
    """Every delay and instant that breaks a time rule must be refused by every way that takes one, everywhere."""
    refused: list[Any] = []
    namespace: Namespace[Any] = Namespace("times")

    async def try_all(scheduler: Scheduler) -> None:
        ways: list[tuple[Any, list[Any]]] = [
            (lambda bad: scheduler.run_after(bad, "jobs:note"), BAD_DELAYS),
            (lambda bad: scheduler.after(bad).call(note), BAD_DELAYS),
            (lambda bad: scheduler.run_many([note.bind().after(bad)]), BAD_DELAYS),
            (lambda bad: scheduler.run_at(bad, "jobs:note"), BAD_INSTANTS),
            (lambda bad: scheduler.at(bad).call(note), BAD_INSTANTS),
            (lambda bad: scheduler.run_many([note.bind().at(bad)]), BAD_INSTANTS),
        ]
        for way, values in ways:
            for bad in values:
                with pytest.raises(InvalidTime):
                    await way(bad)
                refused.append(bad)

    @namespace.mutation
    async def mutation(ctx: MutationCtx) -> None:
        await try_all(ctx.scheduler)

    @namespace.action
    async def action(ctx: ActionCtx) -> None:
        await try_all(ctx.scheduler)

    h = await start(jobs, namespace)
    await (try_all(h.scheduler) if place == "app" else h.call(f"times:{place}"))
    assert len(refused) == 3 * (len(BAD_DELAYS) + len(BAD_INSTANTS))
    assert await h.scheduler.list().count() == 0


async def test_milliseconds_are_recognized(start: Start) -> None:
    """A number that can only be milliseconds must be refused with that hint, not run in the year 57,000."""
    h = await start(jobs)
    with pytest.raises(InvalidTime, match=r"can only be milliseconds; .*divide by 1000"):
        await h.scheduler.run_at(START.timestamp() * 1000, "jobs:note")
    with pytest.raises(InvalidTime, match="has no time zone"):
        await h.scheduler.run_at(datetime(2026, 1, 2), "jobs:note")
    with pytest.raises(InvalidTime, match="over five years"):
        await h.scheduler.run_after(timedelta(days=2000), "jobs:note")


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"key": ""}, "key must be a str of 1 to 256"),
    ({"key": "k" * 257}, "key must be a str of 1 to 256"),
    ({"key": 7}, "key must be a str"),
    ({"key": None}, "key must be a str"),
    ({"idempotency_key": ""}, "idempotency_key must be a str"),
    ({"idempotency_key": b"x"}, "idempotency_key must be a str"),
    ({"on_conflict": "keep"}, r"give key=… too"),
    ({"key": "k", "on_conflict": "skip"}, "on_conflict must be one of"),
    ({"keys": "k"}, r"unknown job option\(s\) \['keys'\]; known are"),
    ({"delay": 3}, "unknown job option"),
    ({"post_id": 3}, "unknown job option"),
]


@pytest.mark.parametrize(("options", "match"), BAD_OPTIONS, ids=lambda o: str(o)[:30])
async def test_wrong_options_are_refused_and_store_nothing(start: Start, options: dict[str, Any], match: str) -> None:
    """Every option that is unknown or does not fit must be refused by every way that takes options."""
    h = await start(jobs)
    for attempt in (
        lambda: h.scheduler.run_now("jobs:note", **options),
        lambda: h.scheduler.run_after(1, "jobs:note", {}, **options),
        lambda: h.scheduler.run_at(0, note.bind(), **options),
        lambda: h.scheduler.after(1, **options).call(note),
        lambda: h.scheduler.at(0, **options).call(act),
        lambda: h.scheduler.now(**options).call(act),
        lambda: h.scheduler.run_many([note.bind().after(1, **options)]),
        lambda: h.scheduler.run_many([note.bind().at(0, **options)]),
    ):
        with pytest.raises(InvalidArgs, match=match):
            await attempt()
    assert await h.scheduler.list().count() == 0


async def test_a_call_has_one_moment(start: Start) -> None:
    """A bound call with a moment of its own must not be given a second one silently."""
    h = await start(jobs)
    for call in (note.bind().after(5), note.bind().at(0), note.bind().after(0)):
        for attempt in (
            lambda call=call: h.scheduler.run_now(call),
            lambda call=call: h.scheduler.run_after(1, call),
            lambda call=call: h.scheduler.run_at(0, call),
        ):
            with pytest.raises(InvalidArgs, match="has its own moment: give it to run_many"):
                await attempt()
    assert await h.scheduler.list().count() == 0


async def test_cancel_takes_an_id_or_a_key(start: Start) -> None:
    """Neither, both, or something else must be refused."""
    h = await start(jobs)
    for arguments, options in (((), {}), (("x",), {"key": "k"}), ((7,), {}), ((b"x",), {})):
        with pytest.raises(InvalidArgs):
            await h.scheduler.cancel(*arguments, **options)


# ------------------------------------------------------------------ values


async def test_a_bound_call_is_a_value(start: Start) -> None:
    """The same call must be schedulable many times, and `.after`/`.at` must leave it as it was."""
    h = await start(jobs)
    call = note.bind(what="v")
    later = call.after(5, key="a")
    assert (call.due, call.options, later.due, later.options) == (None, {}, After(5), {"key": "a"})
    assert later.at(START, idempotency_key="b") == call.at(START, key="a", idempotency_key="b")
    assert call == Call("jobs:note", {"what": "v"})
    assert call != later
    assert repr(call) == "Call(jobs:note: what='v')"
    for _ in range(2):
        await h.scheduler.run_now(call)
    await h.scheduler.run_many([call, later, call])
    assert [job.result for job in await h.advance(9)] == ["v0", "v0", "v0", "v0", "v5"]


async def test_a_moment_is_a_value_of_when(start: Start) -> None:
    """One moment must serve several calls; `after` counts from each call, not from when the moment was made."""
    h = await start(jobs)
    soon = h.scheduler.after(10)
    await soon.call(note, what="a")
    await h.advance(4)
    await soon.call(act, what="b")
    assert [job.result for job in await h.advance(60)] == ["a10", "b14"]


async def test_named_parts_of_a_delay_are_exact_and_checked(start: Start) -> None:
    """Weeks to seconds must add up to the microsecond; a negative or absurd part must be refused by its name."""
    h = await start(jobs)
    job_id = await h.scheduler.after(minutes=0.1, seconds=0.000_001, hours=1).call(note)
    job = await h.scheduler.get(job_id)
    assert job is not None
    assert job.scheduled_at - START == timedelta(hours=1, seconds=6, microseconds=1)
    for part, bad in (("days", -1), ("hours", math.nan), ("minutes", True), ("seconds", "1"), ("weeks", 300)):
        with pytest.raises(InvalidTime, match=part):
            h.scheduler.after(**{part: bad})


# ------------------------------------------------------------------ cancel, retry, wait


async def test_a_canceled_job_never_starts(start: Start) -> None:
    """Cancel must answer True for what was pending, and for what is canceled already; then nothing runs."""
    h = await start(jobs)
    first = await h.scheduler.run_after(5, "jobs:note")
    second = await h.scheduler.run_after(5, "jobs:act", key="k")
    third = await h.scheduler.run_after(5, "jobs:act")
    assert await h.scheduler.cancel(first) is True
    assert await h.scheduler.cancel(key="k") is True
    assert await h.scheduler.cancel(first) is True
    assert await h.scheduler.cancel(key="k") is False
    ended = await h.advance(10)
    assert [(job.id, job.state, job.attempt) for job in ended] == [
        (first, "canceled", 0), (second, "canceled", 0), (third, "success", 1),
    ]  # fmt: skip
    assert await h.scheduler.cancel(third) is False
    assert await h.runs() == [ended[2]]


async def test_a_running_or_ended_job_cannot_be_canceled(start: Start) -> None:
    """False must mean: it had started. A running action goes on, and a mutation can't cancel itself."""
    namespace: Namespace[Any] = Namespace("selfish")
    answers: list[bool] = []

    @namespace.mutation
    async def cancels_itself(ctx: MutationCtx) -> None:
        assert ctx.invoker.source == "scheduler"
        answers.append(await ctx.scheduler.cancel(ctx.invoker.job_id))

    @namespace.action
    async def sleeps(ctx: ActionCtx) -> str:
        assert ctx.invoker.source == "scheduler"
        answers.append(await ctx.scheduler.cancel(ctx.invoker.job_id))
        await ctx.sleep(10)
        return "awake"

    h = await start(namespace)
    await h.scheduler.run_now("selfish:cancels_itself")
    sleeping = await h.scheduler.run_now("selfish:sleeps", key="s")
    await h.settle()
    assert await h.scheduler.cancel(sleeping) is False
    assert await h.scheduler.cancel(key="s") is False
    job = await h.scheduler.get(sleeping)
    assert job is not None
    assert job.state == "in_progress"
    assert [job.result for job in await h.advance(10)] == ["awake"]
    assert answers == [False, False]


async def test_retry_runs_a_failed_job_again(start: Start) -> None:
    """Only a failed job can be retried: same id, next attempt, due now, the old failure gone."""
    namespace: Namespace[Any] = Namespace("flaky")
    failing = [True]
    seen: list[tuple[int, str, Any]] = []

    @namespace.action
    async def work(ctx: ActionCtx, *, n: int) -> int:
        assert ctx.invoker.source == "scheduler"
        seen.append((ctx.invoker.attempt, ctx.invoker.occurrence_id, ctx.invoker.scheduled_at))
        if failing[0]:
            raise LookupError("gone")
        return n

    h = await start(namespace)
    job_id = await h.scheduler.run_after(5, "flaky:work", {"n": 3})
    assert await h.scheduler.retry(job_id) is False
    (job,) = await h.advance(10)
    assert (job.state, job.cause, job.error, job.attempt) == ("failed", "error", "LookupError: gone", 1)
    failing[0] = False
    assert await h.scheduler.retry(job_id) is True
    assert await h.scheduler.retry(job_id) is False
    await h.settle()
    again = await h.scheduler.get(job_id)
    assert again is not None
    assert (again.state, again.result, again.attempt, again.cause, again.error) == ("success", 3, 2, None, None)
    assert (again.scheduled_at, again.started_at) == (START + timedelta(seconds=5), START + timedelta(seconds=10))
    assert await h.scheduler.retry(job_id) is False
    assert seen == [(1, job_id, again.scheduled_at), (2, job_id, again.scheduled_at)]


async def test_wait_returns_the_ended_job(start: Start) -> None:
    """Waiting must give the job once it ended, however it ends, at once when it has, and raise after its timeout."""
    h = await start(jobs)
    ran, canceled, never = [await h.scheduler.run_after(n, "jobs:note") for n in (5, 6, 7)]
    waits = [asyncio.ensure_future(h.scheduler.wait(job_id, timeout=60)) for job_id in (ran, canceled)]
    expiring = asyncio.ensure_future(h.scheduler.wait(never, timeout=timedelta(seconds=2)))
    await h.advance(2)
    with pytest.raises(TimeoutError, match="still waiting after 2 s"):
        await expiring
    await h.scheduler.cancel(canceled)
    await h.advance(10)
    assert [(job.id, job.state) for job in await asyncio.gather(*waits)] == [(ran, "success"), (canceled, "canceled")]
    assert (await h.scheduler.wait(never)).state == "success"
    assert (await h.scheduler.wait(canceled, timeout=1)).state == "canceled"


async def test_wait_is_refused_where_it_could_never_end(start: Start) -> None:
    """A mutation's scheduler has no wait: its own transaction is what the job would wait for."""
    h = await start(jobs)
    seen: list[bool] = []
    namespace: Namespace[Any] = Namespace("waits")

    @namespace.mutation
    async def look(ctx: MutationCtx) -> None:
        seen.append(hasattr(ctx.scheduler, "wait"))

    other = await start(namespace)
    await other.call(look)
    assert seen == [False]
    assert hasattr(h.scheduler, "wait")


async def test_the_clock_of_a_mutation_stands_still(start: Start) -> None:
    """ctx.now must be one moment for the whole mutation and all it calls; delays count from it."""
    namespace: Namespace[Any] = Namespace("clock")
    harness: list[Harness] = []

    @namespace.query
    async def inner(ctx: Any) -> datetime:
        return ctx.now

    @namespace.mutation
    async def outer(ctx: MutationCtx) -> list[datetime]:
        before = ctx.now
        harness[0].clock.step(5_000_000)
        job_id = await ctx.scheduler.run_after(1, "jobs:note")
        job = await ctx.scheduler.get(job_id)
        assert job is not None
        return [before, ctx.now, await ctx.run_query(inner), job.scheduled_at - timedelta(seconds=1), job.created_at]

    @namespace.action
    async def moving(ctx: ActionCtx) -> timedelta:
        before = ctx.now
        await ctx.sleep(3)
        return ctx.now - before

    h = await start(jobs, namespace)
    harness.append(h)
    assert await h.call(outer) == [START] * 5
    await h.scheduler.run_now("clock:moving")
    assert [job.result for job in await h.advance(10) if job.path == "clock:moving"] == [3.0]
