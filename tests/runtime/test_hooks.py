"""Hooks: the app hears of every attempt, durably ended ones only, and nothing a hook does can hurt a job (H11)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runtime import ActionCtx, AlreadyStarted, App, InvalidArgs, MutationCtx, Namespace, Retry
from runtime import hooks as hooks_module
from runtime.testing import START, Harness

if TYPE_CHECKING:
    from runtime import JobEvent
    from tests.runtime.conftest import Start

KINDS = ["action", "mutation"]


def functions() -> Namespace[Any]:
    """Return functions that end as their argument says."""
    ns: Namespace[Any] = Namespace("f")

    @ns.mutation(retry=Retry(2, jitter=0, base=5))
    async def mutation(ctx: MutationCtx, *, fails: bool = False) -> None:
        if fails:
            raise LookupError("as told")

    @ns.action(retry=Retry(2, jitter=0, base=5))
    async def action(ctx: ActionCtx, *, fails: bool = False, seconds: float = 0) -> None:
        await ctx.sleep(seconds)
        if fails:
            raise LookupError("as told")

    return ns


def listening(*namespaces: Namespace[Any]) -> tuple[App[Any], list[tuple[str, JobEvent]]]:
    """Return an app that writes down all it hears."""
    app: App[Any] = App("unused.db", namespaces=namespaces)
    heard: list[tuple[str, JobEvent]] = []
    app.on_dispatch(lambda event: heard.append(("dispatch", event)))
    app.on_job_failed(lambda event: heard.append(("failed", event)))

    @app.on_job_finished
    async def finished(event: JobEvent) -> None:
        await asyncio.sleep(0)
        heard.append(("finished", event))

    return app, heard


def moments(heard: list[tuple[str, JobEvent]]) -> list[tuple[str, int, str | None]]:
    """Return what was heard, in short."""
    return [(moment, event.attempt, event.state) for moment, event in heard]


# ------------------------------------------------------------------ what they hear


@pytest.mark.parametrize("kind", KINDS)
async def test_a_success_is_dispatched_and_finished(start: Start, kind: str) -> None:
    """Two events, with who, when and how."""
    app, heard = listening(functions())
    h = await start(app)
    job_id = await h.scheduler.run_after(3, f"f:{kind}")
    await h.advance(10)
    assert moments(heard) == [("dispatch", 1, None), ("finished", 1, "success")]
    for _, event in heard:
        assert (event.job_id, event.path, event.kind) == (job_id, f"f:{kind}", kind)
        assert event.scheduled_at == event.dispatched_at == START + timedelta(seconds=3)
        assert (event.cause, event.error, event.retry_at) == (None, None, None)
    assert [event.ended_at for _, event in heard] == [None, START + timedelta(seconds=3)]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_attempt_is_told(start: Start, kind: str) -> None:
    """One that is followed by another is `pending` with its time; only the last one finishes the job."""
    app, heard = listening(functions())
    h = await start(app)
    await h.scheduler.run_now(f"f:{kind}", {"fails": True})
    await h.advance(10)
    assert moments(heard) == [
        ("dispatch", 1, None), ("failed", 1, "pending"),
        ("dispatch", 2, None), ("failed", 2, "failed"), ("finished", 2, "failed"),
    ]  # fmt: skip
    again, last = heard[1][1], heard[3][1]
    assert (again.cause, again.error, again.retry_at) == (
        "error", "LookupError: as told", START + timedelta(seconds=5),
    )  # fmt: skip
    assert (last.cause, last.error, last.retry_at) == ("error", "LookupError: as told", None)


async def test_what_could_not_be_dispatched_has_failed(start: Start) -> None:
    """A job whose function is gone, or whose arguments do not fit any more, is told with its cause."""
    before: Namespace[Any] = Namespace("f")

    @before.mutation(name="gone")
    async def gone(ctx: MutationCtx) -> None:
        pass

    app, heard = listening(before)
    h = await start(app)
    await h.scheduler.run_after(60, "f:gone")
    await h.app._stop()
    app._registry._namespaces["f"] = functions()
    app._registry._found.clear()
    await h.app._start()
    await h.advance(60)
    assert [(moment, event.cause) for moment, event in heard] == [
        ("dispatch", None), ("failed", "unknown_function"), ("finished", "unknown_function"),
    ]  # fmt: skip


async def test_stopped_and_timed_out_attempts_are_told(start: Start) -> None:
    """Canceled while it ran: finished, as canceled, not failed. Canceled before it started: nothing was started."""
    app, heard = listening(functions())
    h = await start(app)
    pending = await h.scheduler.run_after(60, "f:action")
    stopped = await h.scheduler.run_now("f:action", {"seconds": 60})
    await h.settle()
    await h.scheduler.cancel(stopped, running=True)
    await h.scheduler.cancel(pending)
    await h.settle()
    assert moments(heard) == [("dispatch", 1, None), ("finished", 1, "canceled")]
    heard.clear()
    await h.scheduler.run_now("f:action", {"seconds": 60}, timeout=1, retry=1)
    await h.advance(5)
    assert moments(heard) == [("dispatch", 1, None), ("failed", 1, "failed"), ("finished", 1, "failed")]
    assert heard[-1][1].cause == "timeout"


async def test_attempts_that_a_crash_interrupted_are_told_at_the_next_start(start: Start) -> None:
    """What became of them: another attempt, or the end."""
    app, heard = listening(functions())
    h = await start(app)
    again = await h.scheduler.run_now("f:action", {"seconds": 60})
    lost = await h.scheduler.run_now("f:action", {"seconds": 60}, retry=1)
    await h.settle()
    heard.clear()
    await h.restart(down_for=30)
    told = {(event.job_id, moment): event for moment, event in heard}
    assert set(told) == {(again, "failed"), (lost, "failed"), (lost, "finished")}
    assert {event.cause for event in told.values()} == {"interrupted"}
    assert {event.ended_at for event in told.values()} == {START + timedelta(seconds=30)}
    assert (told[again, "failed"].state, told[lost, "finished"].state) == ("pending", "failed")


async def test_what_the_last_moments_of_the_app_brought_is_still_heard(start: Start) -> None:
    """A stop waits a moment for its hooks: interrupted attempts are told."""
    app, heard = listening(functions())
    h = await start(app)
    await h.scheduler.run_now("f:action", {"seconds": 60}, retry=1)
    await h.settle()
    await h.restart(kill=False)
    assert moments(heard) == [("dispatch", 1, None), ("failed", 1, "failed"), ("finished", 1, "failed")]


async def test_a_live_call_is_no_job(start: Start) -> None:
    """Hooks hear of jobs; whoever calls hears for himself."""
    app, heard = listening(functions())
    h = await start(app)
    await h.call("f:mutation")
    await h.call("f:action")
    await h.settle()
    assert heard == []


async def test_an_end_that_is_told_is_durable(start: Start) -> None:
    """A hook that looks the job up sees the state it was told."""
    app: App[Any] = App("unused.db", namespaces=[functions()])
    seen: list[tuple[Any, Any]] = []

    async def look(event: JobEvent) -> None:
        job = await app.scheduler.get(event.job_id)
        assert job is not None
        seen.append((event.state, job.state))

    app.on_job_failed(look)
    app.on_job_finished(look)
    h = await start(app)
    for kind in KINDS:
        await h.scheduler.run_now(f"f:{kind}", {"fails": True})
        await h.scheduler.run_now(f"f:{kind}")
    await h.advance(60)
    assert len(seen) == 2 + 2 + 4
    assert all(told == found for told, found in seen)


# ------------------------------------------------------------------ H11: what they do


RAISES: dict[str, BaseException] = {
    "Exception": LookupError("mine"),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "SystemExit": SystemExit(3),
    "CancelledError": asyncio.CancelledError(),
    "GeneratorExit": GeneratorExit(),
    "StopIteration": StopIteration(),
    "BaseExceptionGroup": BaseExceptionGroup("both", [KeyboardInterrupt(), LookupError()]),
}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("name", RAISES)
async def test_H11_a_hook_may_raise_anything(
    start: Start, name: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with the job; the job, the hooks after it, and the next jobs know nothing of it."""
    app: App[Any] = App("unused.db", namespaces=[functions()])
    heard: list[str | None] = []

    def plain(event: JobEvent) -> None:
        raise RAISES[name]

    async def awaited(event: JobEvent) -> None:
        await asyncio.sleep(0)
        raise RAISES[name]

    bad = awaited if is_async else plain
    app.on_dispatch(bad)
    app.on_job_failed(bad)
    app.on_job_finished(bad)
    app.on_job_finished(lambda event: heard.append(event.state))
    h = await start(app)
    ids = [await h.scheduler.run_now(f"f:{kind}", {"fails": fails}) for kind in KINDS for fails in (False, True)]
    await h.advance(60)
    jobs = [await h.scheduler.get(job_id) for job_id in ids]
    assert [(job.state, job.attempt) for job in jobs if job] == [("success", 1), ("failed", 2)] * 2
    assert sorted(map(str, heard)) == ["failed", "failed", "success", "success"]
    told = [record for record in caplog.records if "a hook failed on f:" in record.getMessage()]
    assert len(told) == 6 + 4 + 4  # six attempts, four of them failed, four ends


async def test_H11_a_hook_may_schedule_and_call(start: Start) -> None:
    """It is on the loop, outside every turn: the app's own handles work, and what they make is no child of the job."""
    app: App[Any] = App("unused.db", namespaces=[functions()])
    made: list[str] = []

    @app.on_job_finished
    async def follow(event: JobEvent) -> None:
        if len(made) < 3:
            await app.call("f:mutation")
            made.append(await app.scheduler.run_after(10, "f:mutation"))

    h = await start(app)
    await h.scheduler.run_now("f:mutation")
    await h.advance(100)
    jobs = [await h.scheduler.get(job_id) for job_id in made]
    assert [(job.state, job.parent_id) for job in jobs if job] == [("success", None)] * 3
    assert await h.scheduler.list().count() == 4


async def test_H11_a_hook_may_steer_the_job_it_hears_of(start: Start) -> None:
    """Retrying and dropping dead letters from a hook is what hooks are for."""
    app: App[Any] = App("unused.db", namespaces=[functions()])
    answers: list[bool] = []

    @app.on_job_finished
    async def steer(event: JobEvent) -> None:
        answers.append(await (app.scheduler.retry if event.attempt < 4 else app.scheduler.drop)(event.job_id))

    h = await start(app)
    job_id = await h.scheduler.run_now("f:action", {"fails": True})
    await h.advance(100)
    assert answers == [True, True, True]
    assert await h.scheduler.get(job_id) is None


async def test_H11_a_hook_that_hangs_holds_up_only_hooks() -> None:
    """Jobs go on; the stop waits a moment, cancels it, and is not kept by it though it does not listen."""
    app: App[Any] = App("unused.db", namespaces=[functions()])
    calls: list[str] = []
    entered, never = asyncio.Event(), asyncio.Event()

    @app.on_job_finished
    async def hangs(event: JobEvent) -> None:
        calls.append(event.job_id)
        entered.set()
        with contextlib.suppress(asyncio.CancelledError):
            await never.wait()
        await never.wait()

    async with Harness(app) as h:
        first = await h.scheduler.run_now("f:mutation")
        await entered.wait()
        second = await h.scheduler.run_now("f:action")
        job = await asyncio.wait_for(h.scheduler.wait(second), 10)
        assert job.state == "success"
        assert calls == [first]
        await asyncio.wait_for(app._stop(), 10)
    never.set()
    await asyncio.sleep(0)


async def test_H11_events_beyond_the_limit_are_dropped_and_said(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook that is too slow costs events, not memory: those that wait are heard, the others counted in the log."""
    monkeypatch.setattr(hooks_module, "EVENTS_MAX", 5)
    app: App[Any] = App("unused.db", namespaces=[functions()])
    heard: list[str] = []
    go = asyncio.Event()

    @app.on_job_finished
    async def slow(event: JobEvent) -> None:
        await go.wait()
        heard.append(event.job_id)

    h = await start(app)
    ids = [await h.scheduler.run_now("f:mutation") for _ in range(20)]
    for job_id in ids:
        assert (await h.scheduler.wait(job_id)).state == "success"
    go.set()
    with caplog.at_level(logging.ERROR):
        await h.settle()
    assert heard == ids[:6]  # one was being heard, five waited
    said = [record.getMessage() for record in caplog.records if "event" in record.getMessage()]
    assert said == [
        "hooks are too slow: 5 events wait, and those after them are dropped",
        "14 events were dropped: hooks were too slow",
    ]
    last = await h.scheduler.run_now("f:mutation")
    await h.settle()
    assert heard[-1] == last


# ------------------------------------------------------------------ definitions


async def test_hooks_come_before_the_start(start: Start) -> None:
    """A hook that would miss what happened already is refused, and so is what can't be called."""
    app: App[Any] = App("unused.db")
    with pytest.raises(InvalidArgs, match="a hook is a function"):
        app.on_dispatch("print")  # type: ignore[type-var]
    await start(app)
    for add in (app.on_dispatch, app.on_job_failed, app.on_job_finished):
        with pytest.raises(AlreadyStarted):
            add(print)


def test_a_hook_is_given_back_as_it_was() -> None:
    """As decorators do, so that it can be called and tested by itself."""
    app: App[Any] = App("unused.db")

    def hook(event: JobEvent) -> None:
        pass

    assert app.on_dispatch(hook) is hook


async def test_an_attempt_that_is_not_retried_for_a_cancel_is_told_as_canceled(start: Start) -> None:
    """What a hook hears of the end of an attempt must be what became of the job."""
    app, heard = listening(functions())
    h = await start(app)
    job_id = await h.scheduler.run_now("f:action", {"seconds": 5, "fails": True})
    await h.settle()
    assert await h.scheduler.cancel(job_id) is False
    await h.advance(10)
    job = await h.scheduler.get(job_id)
    assert job is not None
    assert job.state == "canceled"
    assert moments(heard)[-1] == ("finished", 1, "canceled")
