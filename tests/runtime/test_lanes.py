"""Lanes: one job of a lane at a time, in order, through failures, retries, stops, keys and crashes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import ActionCtx, App, AuthRequest, Call, FunctionError, InvalidArgs, MutationCtx, Namespace, Retry
from runtime.testing import Harness, simulate

START = datetime(2026, 1, 1, tzinfo=UTC)
AGAIN = Retry(3, backoff="constant", base=60, jitter=0)


class Lanes:
    """An action and a mutation that note who begins when, and whether two of a lane ever ran together."""

    def __init__(self, **options: Any) -> None:
        self.app: App[Any] = App("unused.db", **options)
        ns: Namespace[Any] = self.app.namespace("w")
        self.began: list[tuple[str, float]] = []
        self.live: defaultdict[str | None, set[str]] = defaultdict(set)
        self.together: list[set[str]] = []

        @ns.action
        async def act(ctx: ActionCtx, *, n: str, lane: str | None = None, naps: float = 0, fails: int = 0) -> None:
            self.began.append((n, (ctx.now - START).total_seconds()))
            live = self.live[lane]
            live.add(n)
            if lane is not None and len(live) > 1:
                self.together.append(set(live))
            try:
                if naps:
                    await ctx.sleep(naps)
                if ctx.invoker.attempt <= fails:  # type: ignore[union-attr]
                    raise FunctionError("NO", "as asked")
            finally:
                live.discard(n)

        @ns.mutation
        async def write(ctx: MutationCtx, *, n: str, lane: str | None = None, naps: float = 0, fails: int = 0) -> None:
            self.began.append((n, (ctx.now - START).total_seconds()))
            if lane is not None and self.live[lane]:
                self.together.append({n, *self.live[lane]})
            if ctx.invoker.attempt <= fails:  # type: ignore[union-attr]
                raise FunctionError("NO", "as asked")

    async def run(self, n: str, lane: str | None = "l", *, path: str = "w:act", after: float = 0, naps: float = 0,
                  fails: int = 0, **options: Any) -> str:  # fmt: skip
        if lane is not None:
            options["lane"] = lane
        args = {"n": n, "lane": lane, "naps": naps, "fails": fails}
        return await self.app.scheduler.run_after(after, path, args, **options)


async def test_a_lane_runs_one_after_the_other_and_lanes_side_by_side() -> None:
    """Within a lane each waits for the one before; other lanes, and jobs of none, do not."""
    lanes = Lanes()
    async with Harness(lanes.app) as h:
        for n in ("a1", "a2", "a3"):
            await lanes.run(n, naps=10)
        await lanes.run("b1", "other", naps=10)
        await lanes.run("free", None)
        await h.advance(60)
        assert lanes.began == [("a1", 0), ("b1", 0), ("free", 0), ("a2", 10), ("a3", 20)]
        job = (await h.runs())[0]
        assert job.lane == "l"
        assert await h.scheduler.list(lane="l").count() == 3


async def test_a_job_with_an_earlier_time_goes_first_unless_the_head_has_begun() -> None:
    """Fire time decides among those that wait, whenever they were scheduled; what runs is not overtaken."""
    lanes = Lanes()
    async with Harness(lanes.app) as h:
        await lanes.run("late", after=100)
        await lanes.run("early", after=50, naps=100)
        await h.advance(60)
        await lanes.run("now", naps=10)
        await h.advance(200)
        assert lanes.began == [("early", 50), ("now", 150), ("late", 160)]


@pytest.mark.parametrize("path", ["w:act", "w:write"])
async def test_a_retrying_job_holds_its_lane(path: str) -> None:
    """Between attempts nobody of its lane starts, however early; when it has failed for good, the lane goes on."""
    lanes = Lanes()
    async with Harness(lanes.app) as h:
        await lanes.run("fails", path=path, fails=9, retry=AGAIN)
        await lanes.run("next")
        await h.advance(30)
        await lanes.run("earlier", priority=100)
        await h.restart()
        await h.advance(200)
        assert lanes.began == [("fails", 0), ("fails", 60), ("fails", 120), ("next", 120), ("earlier", 120)]


async def test_a_head_that_goes_lets_the_next_one_start_at_once() -> None:
    """Canceled while it waits, stopped while it runs, timed out, failed, replaced under its key."""
    lanes = Lanes()
    async with Harness(lanes.app) as h:
        waits = await lanes.run("waits", after=10)
        stopped = await lanes.run("stopped", after=20, naps=100)
        await lanes.run("times out", after=20, naps=100, timeout=5)
        await lanes.run("fails", after=20, fails=1)
        await lanes.run("replaced", after=20, key="k")
        await lanes.run("instead", after=30, key="k", on_conflict="replace")
        await lanes.run("last", after=20)
        assert await h.scheduler.cancel(waits) is True
        await h.advance(22)
        assert await h.scheduler.cancel(stopped, running=True) is True
        await h.advance(100)
        began = [("stopped", 20), ("times out", 22), ("fails", 27), ("last", 27), ("instead", 30)]
        assert lanes.began == began


async def test_a_failed_job_is_tried_again_in_its_lane() -> None:
    """By hand, one or all: it waits for what runs, goes before those that have not begun, and never runs beside one."""
    lanes = Lanes()
    async with Harness(lanes.app) as h:
        failed = [await lanes.run(n, fails=1, naps=5) for n in ("x", "y")]
        await lanes.run("runs", naps=50)
        await lanes.run("waits", naps=1)
        await h.advance(20)
        assert await h.scheduler.retry(failed[0]) is True
        assert await h.scheduler.list(state="failed", lane="l").retry() == 1
        await h.advance(200)
        assert lanes.began[3:] == [("x", 60), ("y", 65), ("waits", 70)]
        assert lanes.together == []
        assert [job.state for job in [await h.scheduler.get(job_id) for job_id in failed] if job] == ["success"] * 2


async def test_keys_and_lanes_go_together() -> None:
    """A parked job is the one its keys stand for, and can be replaced by one of another lane."""
    lanes = Lanes()
    async with Harness(lanes.app) as h:
        await lanes.run("head", naps=100)
        parked = await lanes.run("parked", key="k", idempotency_key="i")
        assert await lanes.run("other", "elsewhere", key="k") == parked
        assert await lanes.run("parked", key="k", idempotency_key="i") == parked
        moved = await lanes.run("moved", "elsewhere", key="k", on_conflict="replace")
        await h.advance(200)
        assert [n for n, _ in lanes.began] == ["head", "moved"]
        assert moved != parked


async def test_mutations_and_actions_of_a_lane_are_one_line() -> None:
    """A mutation waits for the action before it, and an action for the mutation."""
    lanes = Lanes()
    async with Harness(lanes.app) as h:
        for n in range(6):
            await lanes.run(f"{n}", path="w:write" if n % 2 else "w:act", naps=10, priority=-n)
        await h.advance(100)
        assert lanes.began == [("0", 0), ("1", 10), ("2", 10), ("3", 20), ("4", 20), ("5", 30)]


@pytest.mark.parametrize("kill", [True, False])
@pytest.mark.parametrize("retry", [None, AGAIN])
async def test_a_lane_goes_on_after_a_restart(kill: bool, retry: Retry | None) -> None:
    """Whether the head was interrupted for good or runs again, the lane's order holds."""
    lanes = Lanes()
    options = {"retry": retry} if retry is not None else {}
    async with Harness(lanes.app) as h:
        await lanes.run("head", after=1, naps=10, **options)
        await lanes.run("next", after=1, naps=10)
        await h.advance(6)
        await h.restart(kill=kill)
        await h.advance(200)
        assert [n for n, _ in lanes.began] == (["head", "head", "next"] if retry is not None else ["head", "next"])
        assert lanes.together == []


async def test_a_function_that_is_gone_does_not_block_its_lane(tmp_path: Any) -> None:
    """Its job fails, visibly, and those behind it run."""
    db = tmp_path / "app.db"
    old = Lanes()
    extra: Namespace[Any] = Namespace("extra")

    @extra.action
    async def gone(ctx: ActionCtx) -> None:
        """Do nothing."""

    old.app.include(extra)
    async with Harness(old.app, db=db) as h:
        await h.scheduler.run_after(5, "extra:gone", lane="l")
        await old.run("behind", after=6)
    lanes = Lanes()
    async with Harness(lanes.app, db=db) as h:
        await h.advance(10)
        assert [job.cause for job in await h.runs("extra:gone")] == ["unknown_function"]
        assert lanes.began == [("behind", 6)]


@pytest.mark.parametrize("lane", ["", 5, None, "x" * 257, "\ud800"])
async def test_what_is_no_lane_is_refused(lane: Any) -> None:
    """A lane is named as a key is."""
    lanes = Lanes()
    async with Harness(lanes.app) as h:
        with pytest.raises(InvalidArgs, match="lane must be a str"):
            await h.scheduler.run_now("w:act", {"n": "x"}, lane=lane)


async def nobody(request: AuthRequest) -> None:
    await asyncio.sleep(0)


@given(
    jobs=st.lists(
        st.fixed_dictionaries(
            {
                "lane": st.sampled_from(["a", "b", None]),
                "path": st.sampled_from(["w:act", "w:write"]),
                "after": st.integers(0, 4),
                "naps": st.sampled_from([0, 1, 3]),
                "priority": st.sampled_from([0, 0, 7]),
            }
        ),
        max_size=14,
    ),
    groups=st.integers(1, 4),
    window=st.sampled_from([1, 2, 1000]),
    asks=st.booleans(),
)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_any_jobs_of_any_lanes_keep_their_order(
    jobs: list[dict[str, Any]], groups: int, window: int, asks: bool
) -> None:
    """Scheduled in any groups: of a lane no two run together, none is lost, and none passes one that waited before it."""
    lanes = Lanes(**({"auth": nobody} if asks else {}))
    lanes.app._window_max = window

    async def scenario(h: Harness) -> None:
        for group in range(groups):
            calls = []
            for n in range(group, len(jobs), groups):
                job = jobs[n]
                args = {"n": f"{n}", "lane": job["lane"], "naps": job["naps"]}
                options = {"lane": job["lane"]} if job["lane"] is not None else {}
                calls.append(Call(job["path"], args).after(job["after"], priority=job["priority"], **options))  # type: ignore[typeddict-item]
            await h.scheduler.run_many(calls)
            await h.advance(1)
        await h.advance(60)

    simulate(lanes.app, scenario)
    assert lanes.together == []
    assert sorted(int(n) for n, _ in lanes.began) == list(range(len(jobs)))
    arrived = {n: n % groups for n in range(len(jobs))}
    fires = {n: arrived[n] + jobs[n]["after"] for n in arrived}
    for lane in ("a", "b"):
        order = [(int(n), at) for n, at in lanes.began if jobs[int(n)]["lane"] == lane]
        for place, (first, at) in enumerate(order):
            for later, _ in order[place + 1 :]:
                waited = arrived[later] < at or (arrived[later] == at and first != later and at > fires[first])
                assert not (waited and fires[later] < fires[first]), (order, fires)
