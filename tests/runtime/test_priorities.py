"""Priorities: who goes first among due jobs, what they do not change, and that nobody waits for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.limits import FAIR_PICK
from runtime import ActionCtx, App, Call, FunctionError, InvalidArgs, MutationCtx, Retry
from runtime.testing import Harness, simulate

START = datetime(2026, 1, 1, tzinfo=UTC)


class Race:
    """One slot for actions; who began, in order."""

    def __init__(self, slots: int = 1) -> None:
        self.app: App[Any] = App("unused.db", max_running_actions=slots)
        ns = self.app.namespace("w")
        self.began: list[Any] = []

        @ns.action
        async def act(ctx: ActionCtx, *, n: Any, naps: float = 0, fails: int = 0) -> None:
            self.began.append(n)
            if naps:
                await ctx.sleep(naps)
            if fails and ctx.invoker.attempt <= fails:  # type: ignore[union-attr]
                raise FunctionError("NO", "as asked")

        @ns.mutation
        async def write(ctx: MutationCtx, *, n: Any) -> None:
            self.began.append(n)

    def call(self, n: Any, priority: int = 0, *, after: float = 1, path: str = "w:act", **args: Any) -> Call[Any]:
        return Call(path, {"n": n, **args}).after(after, priority=priority)


@pytest.mark.parametrize("path", ["w:act", "w:write"])
async def test_the_higher_goes_first_then_the_earlier_then_the_first_accepted(path: str) -> None:
    """Among jobs that are due at the same moment of picking."""
    race = Race()
    async with Harness(race.app) as h:
        await h.scheduler.run_many(
            [
                race.call("late", after=3, path=path),
                race.call("low", -5, after=1, path=path),
                race.call("plain", after=2, path=path),
                race.call("plain too", after=2, path=path),
                race.call("high", 100, after=3, path=path),
                race.call("high and early", 100, after=2, path=path),
            ]
        )
        await h.restart(down_for=10)
        await h.settle()
        assert race.began == ["high and early", "high", "plain", "plain too", "late", "low"]
        jobs = await h.runs()
        assert {job.args["n"]: job.priority for job in jobs}["high"] == 100


async def test_a_priority_starts_nothing_early_and_stops_nobody() -> None:
    """It orders what is due: before its time a job waits, and what runs goes on."""
    race = Race()
    async with Harness(race.app) as h:
        await h.scheduler.run_many([race.call("runs", -100, after=0, naps=50), race.call("next", 0, after=5)])
        await h.scheduler.run_many([race.call("not yet", 100, after=70), race.call("high", 50, after=10)])
        await h.advance(60)
        assert race.began == ["runs", "high", "next"]
        await h.advance(10)
        assert race.began[3:] == ["not yet"]


async def test_one_pick_in_eight_goes_to_the_longest_overdue() -> None:
    """With one slot and a flood of higher ones, every eighth start is a low one, in order."""
    race = Race()
    async with Harness(race.app) as h:
        await h.scheduler.run_many(race.call(f"low {n}", after=1, naps=1) for n in range(4))
        await h.scheduler.run_many(race.call("high", 9, after=2, naps=1) for _ in range(100))
        await h.restart(down_for=2)
        await h.advance(500)
        lows = [at for at, n in enumerate(race.began) if n != "high"]
        assert [race.began[at] for at in lows] == [f"low {n}" for n in range(4)]
        assert lows == [FAIR_PICK * (nth + 1) - 1 for nth in range(4)]


async def test_a_low_priority_is_not_starved_while_higher_ones_keep_coming() -> None:
    """New ones every second, more than the slot can take: the old one starts within eight of them."""
    race = Race()
    async with Harness(race.app) as h:
        await h.scheduler.run_many([race.call("first", 9, after=0, naps=1), race.call("low", -100, after=0)])
        for _ in range(12):
            await h.scheduler.run_many(race.call("high", 9, after=0, naps=1) for _ in range(3))
            await h.advance(1)
        assert 0 < race.began.index("low") <= FAIR_PICK


async def test_a_retry_keeps_its_priority() -> None:
    """The next attempt goes before what has a lower one; one tried again by hand, too."""
    race = Race()
    async with Harness(race.app) as h:
        again = Retry(2, backoff="constant", base=1, jitter=0)
        job_id = await h.scheduler.run_now("w:act", {"n": "x", "fails": 2}, priority=5, retry=again)
        await h.settle()
        await h.scheduler.run_many([race.call("blocks", after=0, naps=5), race.call("plain", after=0)])
        await h.advance(10)
        assert race.began == ["x", "blocks", "x", "plain"]
        await h.scheduler.run_many([race.call("blocks", after=0, naps=5), race.call("plain", after=0)])
        await h.settle()
        assert await h.scheduler.retry(job_id) is True
        await h.advance(10)
        assert race.began[4:] == ["blocks", "x", "plain"]


async def test_priorities_order_mutations_and_actions_side_by_side() -> None:
    """Each kind in its order: the one does not spoil the other's."""
    race = Race(slots=100)
    async with Harness(race.app) as h:
        await h.scheduler.run_many(
            race.call([kind, priority], priority, path=f"w:{kind}")
            for priority in (-1, 0, 1)
            for kind in ("act", "write")
        )
        await h.advance(1)
        for kind in ("act", "write"):
            assert [priority for of, priority in race.began if of == kind] == [1, 0, -1]


@pytest.mark.parametrize("priority", [101, -101, True, "high", 1.5, None])
async def test_what_is_no_priority_is_refused(priority: Any) -> None:
    """When it is scheduled; nothing is stored."""
    race = Race()
    async with Harness(race.app) as h:
        with pytest.raises(InvalidArgs, match="priority must be a whole number from -100 to 100"):
            await h.scheduler.run_now("w:act", {"n": 1}, priority=priority)
        assert await h.scheduler.list().count() == 0


@given(
    jobs=st.lists(st.tuples(st.sampled_from([-100, 0, 0, 1, 100]), st.integers(0, 3)), max_size=30),
    window=st.sampled_from([1, 3, 1000]),
)
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_every_start_is_the_highest_there_was_but_for_one_in_eight(jobs: list[tuple[int, int]], window: int) -> None:
    """With one slot, and all of them due, whatever the priorities and the size of the index."""
    race = Race()
    race.app._window_max = window

    async def scenario(h: Harness) -> None:
        await h.scheduler.run_many(
            race.call(n, priority, after=after, naps=0.1) for n, (priority, after) in enumerate(jobs)
        )
        await h.restart(down_for=10)
        await h.advance(100)

    simulate(race.app, scenario)
    assert sorted(race.began) == list(range(len(jobs)))
    exceptions = 0
    for at, n in enumerate(race.began):
        left = race.began[at:]
        highest = max(jobs[other][0] for other in left)
        best = min((other for other in left if jobs[other][0] == highest), key=lambda other: (jobs[other][1], other))
        if n != best:
            assert n == min(left, key=lambda other: (jobs[other][1], other))
            exceptions += 1
    assert exceptions <= len(jobs) // FAIR_PICK
