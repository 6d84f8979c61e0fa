"""The scheduler: typed moments, paths, bound calls, options, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from typing_extensions import assert_type

from runtime import App, AppScheduler, Call, Job, JobOptions, Moment, Page, Scheduler
from tests.typing.programs.functions import notify, ping, publish, remind, remove, send_report

app = App("app.db")


async def by_moment(scheduler: Scheduler) -> None:
    """`.call` takes the function's own arguments; the moment takes time and options."""
    assert_type(scheduler.after(30), Moment)
    assert_type(await scheduler.after(30).call(publish, post_id=1), str)
    assert_type(await scheduler.after(timedelta(hours=1)).call(publish, post_id=1, note="n"), str)
    assert_type(await scheduler.after(weeks=1, days=1, hours=1, minutes=1, seconds=1.5).call(ping), str)
    assert_type(await scheduler.at(datetime(2026, 1, 1, tzinfo=UTC)).call(notify, post_id=1), str)
    assert_type(await scheduler.at(1_767_225_600).call(remove, 1), str)
    assert_type(await scheduler.now(key="k", on_conflict="replace").call(remove, post_id=1), str)
    assert_type(await scheduler.now(idempotency_key="i").call(send_report, to=["a"]), str)
    soon = scheduler.after(5)
    for post_id in range(3):
        await soon.call(notify, post_id=post_id)


async def by_path(scheduler: Scheduler) -> None:
    """Paths take a mapping, bound calls are checked when they are bound."""
    assert_type(await scheduler.run_after(30, "mail:notify", {"post_id": 1}), str)
    assert_type(await scheduler.run_after(timedelta(seconds=30), "mail:ping"), str)
    assert_type(await scheduler.run_at(datetime.now(UTC), "mail:notify", {"post_id": 1}, key="k"), str)
    assert_type(await scheduler.run_now("mail:ping", idempotency_key="i"), str)
    assert_type(await scheduler.run_now(ping.bind()), str)
    assert_type(await scheduler.run_after(1, publish.bind(post_id=1), key="k", on_conflict="error"), str)
    assert_type(await scheduler.run_at(0, remove.bind(1)), str)
    options: JobOptions = {"key": "k", "on_conflict": "keep"}
    await scheduler.run_now("mail:ping", **options)


async def many(scheduler: Scheduler) -> None:
    """Calls are values with a result type; run_many takes any mixture of them."""
    assert_type(publish.bind(post_id=1), Call[str])
    assert_type(remove.bind(post_id=1).after(30, key="k"), Call[bool])
    assert_type(notify.bind(post_id=1).at(0), Call[int])
    calls: list[Call[object]] = [publish.bind(post_id=1), notify.bind(post_id=1).after(1), Call("mail:ping")]
    assert_type(await scheduler.run_many(calls), Sequence[str])
    await scheduler.run_many(notify.bind(post_id=n).after(n) for n in range(10))


async def looking(scheduler: Scheduler) -> None:
    """Jobs are typed records; lists are walked or paged."""
    job = await scheduler.get("id")
    assert_type(job, Job | None)
    if job is not None and job.state == "failed" and job.cause == "timeout":
        assert_type(await scheduler.retry(job.id), bool)
    async for each in scheduler.list(fn=notify, state="pending"):
        assert_type(each, Job)
    assert_type(await scheduler.list(fn="mail:notify", key="k").page(limit=10, cursor=None), Page[Job])
    assert_type(await scheduler.list().count(), int)
    assert_type(await scheduler.cancel("id"), bool)
    assert_type(await scheduler.cancel(key="k"), bool)


async def on_the_app() -> None:
    """The app's own scheduler can wait, and fits wherever a scheduler does."""
    assert_type(app.scheduler, AppScheduler)
    assert_type(await app.scheduler.wait("id", timeout=5), Job)
    await by_moment(app.scheduler)
    assert_type(await remind(app, 1), str)
