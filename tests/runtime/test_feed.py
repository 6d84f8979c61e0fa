"""The feed: each listener sees the events in order, knows how many it has missed, and costs the others nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actor_scheduler.errors import Overloaded
from actor_scheduler.model import Again, DueJob, Failed, Stopped, Succeeded
from runtime import ActionCtx, App, Cron, MutationCtx, Namespace
from runtime import feed as feed_module
from runtime.feed import EVENTS_KEPT, LISTENERS_MAX, Changed, Event, Feed, JobHappened, Lagged, Listener
from runtime.testing import Harness


def job(seq: int) -> DueJob:
    return DueJob(seq, f"id{seq}", "f:f", "mutation", b"", 1, 0, seq, "occurrence")


async def passes(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Timers:
    """Stands in for the loop's timers: they ring when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.set: list[tuple[float, Any, tuple[Any, ...]]] = []
        asyncio.get_running_loop().call_later = self.call_later  # type: ignore[method-assign]

    def call_later(self, delay: float, callback: Any, *args: Any) -> Any:
        timer = (self.now + delay, callback, args)
        self.set.append(timer)
        timers = self

        class Handle:
            def cancel(self) -> None:
                if timer in timers.set:
                    timers.set.remove(timer)

        return Handle()

    async def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.set if timer[0] <= until]:
            timer = min(due, key=lambda each: each[0])
            self.set.remove(timer)
            self.now = max(self.now, timer[0])
            timer[1](*timer[2])
            await passes()
        self.now = until
        await passes()


# ------------------------------------------------------------------ what listeners see

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 9)),
        st.tuples(st.just("listen"), st.integers(0, 3)),
        st.tuples(st.just("read"), st.integers(0, 3)),
        st.tuples(st.just("leave"), st.integers(0, 3)),
        st.tuples(st.just("pass"), st.integers(0, 3)),
        st.tuples(st.just("change"), st.integers(1, 2)),
    ),
    max_size=60,
)


class Reader:
    """A listener that reads one batch at each word, and nothing in between: as slow as a test likes."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.began = feed.number
        self.seen: list[Event] = []
        self._go = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._feed.listen() as events:
            while True:
                await self._go.wait()
                self._go.clear()
                self.seen += await events.batch()
                if events.ended:
                    self.seen += await events.batch()
                    return

    def read(self) -> None:
        self._go.set()


@given(moves=MOVES, kept=st.integers(1, 12))
@example(moves=[("listen", 0), ("publish", 9), ("publish", 9), ("read", 0)], kept=3)
@example(moves=[("listen", 0), ("read", 0), ("publish", 1), ("read", 0), ("publish", 9), ("pass", 3)], kept=3)
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_a_listener_sees_a_suffix_of_every_stretch_and_counts_the_rest(moves: list[tuple[str, int]], kept: int) -> None:
    """In order, none twice; what it does not see is told as dropped, exactly there; at the end nothing is owed."""

    async def run() -> None:
        feed, timers = small_feed(kept), Timers()
        readers: dict[int, Reader] = {}
        old: list[Reader] = []
        for what, number in moves:
            match what:
                case "publish":
                    for _ in range(number):
                        feed.starting(job(feed.number))
                case "change":
                    feed.changed(["jobs"] if number == 1 else ["crons", "jobs"])
                case "listen" if number not in readers:
                    readers[number] = Reader(feed)
                case "read" if number in readers:
                    readers[number].read()
                case "leave" if number in readers:
                    old.append(readers.pop(number))
                    old[-1].task.cancel()
                case "pass":
                    await timers.pass_time(number / 10)
            await passes()
        for _ in range(3):
            for reader in readers.values():
                reader.read()
            await timers.pass_time(1)
        for reader in [*readers.values(), *old]:
            check(reader, feed, whole=reader not in old)
        feed.close()
        for reader in readers.values():
            reader.read()
            await passes()
            assert reader.task.done() and reader.task.exception() is None
        await passes()
        assert len(feed) == 0 and timers.set == []

    asyncio.run(run())


def small_feed(kept: int) -> Feed:
    feed = Feed()
    feed._log = type(feed._log)(maxlen=kept)
    return feed


def check(reader: Reader, feed: Feed, *, whole: bool) -> None:
    last = reader.began
    for event in reader.seen:
        if isinstance(event, Lagged):
            assert event.dropped > 0
            assert event.number == last + event.dropped
        else:
            assert event.number == last + 1
        last = event.number
    if whole:
        assert last == feed.number


async def test_nothing_is_made_for_nobody() -> None:
    """Without listeners nothing is published, kept, or armed."""
    feed = Feed()
    timers = Timers()
    feed.starting(job(1))
    feed.attempted(job(1), Succeeded(), 5)
    feed.changed(["jobs"])
    assert (feed.number, len(feed._log), timers.set) == (0, 0, [])
    async with feed.listen():
        feed.starting(job(1))
        feed.changed(["jobs"])
        assert (feed.number, len(feed._log), len(timers.set)) == (2, 2, 1)
    assert (len(feed._log), timers.set) == (0, [])


async def test_outcomes_are_told_as_states() -> None:
    """What a list would show of the job then, with the failure that led there."""
    feed = Feed()
    failure = Failed("timeout", "too long")
    async with feed.listen() as events:
        feed.starting(job(7))
        for outcome in (Succeeded(), failure, Again(failure, 5), Stopped(), Stopped(failure)):
            feed.attempted(replace_cron(job(7)), outcome, 99)
        found = await events.batch()
    assert all(isinstance(event, JobHappened) for event in found)
    assert [
        (event.state, event.cause, event.error, event.at_us) for event in found if isinstance(event, JobHappened)
    ] == [
        ("in_progress", None, None, 7),
        ("success", None, None, 99),
        ("failed", "timeout", "too long", 99),
        ("pending", "timeout", "too long", 99),
        ("canceled", None, None, 99),
        ("canceled", "timeout", "too long", 99),
    ]
    assert isinstance(found[1], JobHappened) and (found[1].id, found[1].path, found[1].cron) == (
        "id7",
        "f:f",
        "nightly",
    )


def replace_cron(due: DueJob) -> DueJob:
    return due._replace(cron="nightly")


async def test_changes_are_told_at_once_and_then_four_times_a_second() -> None:
    """However many there are; the last of them is never swallowed."""
    feed, timers = Feed(), Timers()
    seen: list[tuple[float, tuple[str, ...]]] = []

    async def listen() -> None:
        async with feed.listen() as events:
            async for event in events:
                assert isinstance(event, Changed)
                seen.append((timers.now, event.what))

    task = asyncio.create_task(listen())
    await passes()
    feed.changed(["jobs"])
    await passes()
    assert seen == [(0.0, ("jobs",))]
    for step in range(990):
        feed.changed(["settings" if step == 989 else "crons"])
        await timers.pass_time(0.001)
    assert len(seen) == 4  # at 0, 0.25, 0.5 and 0.75; that of 1.0 is on its way
    await timers.pass_time(1)
    assert len(seen) == 5
    assert "settings" in seen[-1][1]
    assert not timers.set  # calm again
    feed.close()
    await task


@pytest.mark.parametrize(
    ("listeners", "each_ms", "wakings"),
    [(200, 1, (2, 4)), (200, 50, (7, 12)), (2, 50, (20, 22)), (20, 1, (50, 100))],
)
async def test_many_listeners_are_woken_less_often(listeners: int, each_ms: int, wakings: tuple[int, int]) -> None:
    """What they cost the loop is bounded whatever happens: the pause grows with their number, and what they are sent."""
    feed, timers = Feed(), Timers()
    batches = [0] * listeners

    async def listen(number: int) -> None:
        async with feed.listen() as events:
            while await events.batch():
                batches[number] += 1

    tasks = [asyncio.create_task(listen(number)) for number in range(listeners)]
    await passes()
    for passed_ms in range(0, 1000, 5):
        for _ in range(5 // each_ms if each_ms <= 5 else passed_ms % each_ms == 0):
            feed.starting(job(passed_ms))
        await timers.pass_time(0.005)
    assert {count for count in batches if not wakings[0] <= count <= wakings[1]} == set()
    feed.close()
    await asyncio.gather(*tasks)


async def test_one_who_waits_hears_at_once() -> None:
    """The pause comes after an event, not before it."""
    feed = Feed()
    async with feed.listen() as events:
        waiting = asyncio.create_task(events.batch())
        await passes()
        feed.starting(job(1))
        await passes()
        assert waiting.done()
        assert len(waiting.result()) == 1


async def test_no_more_than_fit_may_listen() -> None:
    """Memory and the loop are bounded; one who leaves makes room."""
    feed = Feed()
    async with asyncio.timeout(30):
        entered: list[Any] = []
        for _ in range(LISTENERS_MAX):
            context = feed.listen()
            await context.__aenter__()
            entered.append(context)
        with pytest.raises(Overloaded):
            async with feed.listen():
                pass
        await entered.pop().__aexit__(None, None, None)
        async with feed.listen():
            assert len(feed) == LISTENERS_MAX
        for context in entered:
            await context.__aexit__(None, None, None)
    assert len(feed) == 0


async def test_who_is_canceled_while_waiting_leaves_nothing_behind() -> None:
    """No waiter, no timer, no log."""
    feed, timers = Feed(), Timers()

    async def listen(listener: Listener) -> None:
        async for _ in listener:
            pass

    async with feed.listen() as events:
        task = asyncio.create_task(listen(events))
        await passes()
        assert len(feed._waiting) == 1
        task.cancel()
        await asyncio.wait([task])
        feed.starting(job(1))
    assert (feed._waiting, feed.listeners, timers.set, len(feed._log)) == ({}, set(), [], 0)


async def test_end_lets_go_of_those_who_listen_and_close_of_everybody() -> None:
    """A server that is asked to stop sends its listeners away; an app that stops has none any more."""
    feed = Feed()

    async def listen() -> list[Event]:
        async with feed.listen() as events:
            return [event async for event in events]

    first = asyncio.create_task(listen())
    await passes()
    feed.starting(job(1))
    feed.end()
    assert len(await first) == 1
    second = asyncio.create_task(listen())
    await passes()
    assert not second.done()
    feed.close()
    assert await second == []
    assert await listen() == []


def test_the_log_is_as_long_as_it_says() -> None:
    """What a slow listener can still get, and how much memory that is."""
    assert Feed()._log.maxlen == EVENTS_KEPT == 1_000
    assert feed_module.CHANGED_SECONDS == 0.25


# ------------------------------------------------------------------ in an app


def make_app() -> App[Any]:
    functions = Namespace("f")

    @functions.mutation
    async def note(ctx: MutationCtx, *, more: int = 0) -> None:
        if more:
            await ctx.scheduler.run_after(10, "f:note", {"more": more - 1})

    @functions.action
    async def send(ctx: ActionCtx, *, fails: bool = False) -> None:
        if fails:
            raise RuntimeError("no luck")

    return App("unused.db", namespaces=[functions])


async def test_an_app_publishes_what_its_jobs_do() -> None:
    """Each attempt's start and end, in order; and that something was scheduled, canceled, defined or set."""
    app = make_app()
    async with Harness(app) as h, app._started().feed.listen() as events:
        job_id = await h.scheduler.run_now("f:note")
        failing = await h.scheduler.run_now("f:send", {"fails": True})
        await h.settle()
        happened = [event for event in await events.batch() if isinstance(event, JobHappened)]
        assert [(event.id, event.state) for event in happened if event.id == job_id] == [
            (job_id, "in_progress"),
            (job_id, "success"),
        ]
        assert [(event.state, event.cause, event.attempt) for event in happened if event.id == failing] == [
            ("in_progress", None, 1),
            ("failed", "error", 1),
        ]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("schedule", {"jobs"}),
        ("cancel", {"jobs"}),
        ("retry", {"jobs"}),
        ("drop", {"jobs"}),
        ("mutation", {"jobs"}),
        ("pause", {"settings"}),
        ("pool", {"settings"}),
        ("cron", {"crons"}),
        ("pause cron", {"crons"}),
        ("tick", {"crons", "jobs"}),
        ("call", set()),
    ],
)
async def test_what_was_changed_is_told(what: str, expected: set[str]) -> None:
    """Whoever shows a list of these reads it again, and nobody without a reason."""
    app = make_app()
    app.pool("mail", 2)
    async with Harness(app) as h:
        failed = await h.scheduler.run_now("f:send", {"fails": True})
        later = await h.scheduler.run_after(1_000, "f:note")
        await h.crons.register("hourly", Cron("0 * * * *"), "f:note")
        await h.settle()
        feed = app._started().feed
        async with feed.listen() as events:
            match what:
                case "schedule":
                    await h.scheduler.run_after(60, "f:note")
                case "cancel":
                    await h.scheduler.cancel(later)
                case "retry":
                    await h.scheduler.retry(failed)
                case "drop":
                    await h.scheduler.drop(failed)
                case "mutation":
                    await h.call("f:note", {"more": 1})
                case "pause":
                    await h.scheduler.pause("me")
                case "pool":
                    await h.scheduler.set_pool("mail", 0)
                case "cron":
                    await h.crons.register("daily", Cron("0 0 * * *"), "f:note")
                case "pause cron":
                    await h.crons.pause("hourly")
                case "tick":
                    await h.advance(hours=1)
                case "call":
                    await h.call("f:note")
            feed._tell_changed()
            found: set[str] = set()
            if feed.number:
                found = {each for event in await events.batch() if isinstance(event, Changed) for each in event.what}
            assert found == expected


async def test_nothing_is_published_before_it_is_durable() -> None:
    """A listener that reads the job it hears of finds it as it was told: the event is behind the commit."""
    app = make_app()
    async with Harness(app) as h, app._started().feed.listen() as events:
        ids = [await h.scheduler.run_now("f:note", {"more": 2}) for _ in range(5)]
        await h.settle()
        for event in await events.batch():
            if isinstance(event, JobHappened) and event.state == "success":
                found = await h.scheduler.get(event.id)
                assert found is not None and found.state == "success"
        assert ids


async def test_listeners_end_with_the_app() -> None:
    """None is left waiting for events that can't come."""
    app = make_app()
    async with Harness(app) as h:
        feed = app._started().feed

        async def listen() -> int:
            async with feed.listen() as events:
                return len([event async for event in events])

        task = asyncio.create_task(listen())
        await passes()
        await h.scheduler.run_now("f:note")
        await h.settle()
    assert await asyncio.wait_for(task, 10) >= 2
