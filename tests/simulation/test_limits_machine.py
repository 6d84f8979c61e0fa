"""A state machine: lanes, limits, pools, rates, priorities and pauses on the real store, held against their own words.

It does not foretell who runs when. After every step it says what no order of events may break: who may run, who must
not wait any more, what the index and the gates hold. At the end everything must have drained.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from actor_scheduler.limits import FAIR_PICK
from actor_scheduler.model import Entry
from actor_scheduler.queues import PARKED, SLOTS, base_of, priority_of
from actor_scheduler.store.base import RunDue
from runtime import ActionCtx, App, AuthRequest, Call, FunctionError, KeyConflict, MutationCtx, Namespace, Retry
from runtime.testing import Harness

SECOND = 1_000_000
RATES = {"rate:w:rated": (2, 10 * SECOND), "rate:w:all": (3, 60 * SECOND)}
AGAIN = Retry(3, backoff="constant", base=3, jitter=0)

JOBS = st.fixed_dictionaries(
    {
        "path": st.sampled_from(["w:write", "w:plain", "w:one", "w:mail", "w:mail_one", "w:rated", "w:all"]),
        "delay": st.sampled_from([0, 0, 1, 2, 7, 60]),
        "naps": st.sampled_from([0, 1, 5, 30]),
        "fails": st.sampled_from([0, 0, 0, 1, 9]),
        "lane": st.sampled_from([None, None, "a", "b"]),
        "priority": st.sampled_from([0, 0, 0, 5, -100]),
        "retry": st.booleans(),
    }
)


class World:
    """What runs right now, as the bodies themselves see it."""

    def __init__(self) -> None:
        self.harness: Any = None
        self.live: Counter[str] = Counter()  # of each lane
        self.wrong: list[str] = []
        self.starts: dict[str, list[int]] = defaultdict(list)  # of each rate, in time that no step back repeats
        self.before_step: Counter[str] = Counter()  # of these starts, how many stand before the last step back
        self.forward_us = 0  # how far the wall clock was set forward

    def now_us(self) -> int:
        return int(self.harness.clock.monotonic_us()) + self.forward_us

    @contextlib.contextmanager
    def running(self, ctx: Any, lane: str | None) -> Iterator[None]:
        if lane is not None:
            self.live[lane] += 1
            if self.live[lane] > 1:
                self.wrong.append(f"two runs of lane {lane} at {ctx.now}")
        try:
            yield
        finally:
            if lane is not None:
                self.live[lane] -= 1

    def begins(self, gate: str) -> None:
        starts, (count, period_us) = self.starts[gate], RATES[gate]
        starts.append(self.now_us())
        if len(starts) > count and starts[-1] - starts[-1 - count] < period_us:
            self.wrong.append(f"{gate}: {count + 1} starts within {starts[-1] - starts[-1 - count]} us")


def work_of(world: World, release: int) -> Namespace[Any]:
    """Return the functions of a release: the second one has moved the limits."""
    work: Namespace[Any] = Namespace("w")

    def fails_now(ctx: Any, fails: int) -> None:
        if ctx.invoker.attempt <= fails:
            raise FunctionError("NO", "as asked")

    async def act(ctx: ActionCtx, naps: int, fails: int, lane: str | None) -> None:
        with world.running(ctx, lane):
            if naps:
                await ctx.sleep(naps)
            fails_now(ctx, fails)

    @work.mutation
    async def write(ctx: MutationCtx, *, naps: int, fails: int, lane: str | None) -> None:
        with world.running(ctx, lane):
            fails_now(ctx, fails)

    @work.mutation
    async def orphan(ctx: MutationCtx) -> None:
        await ctx.db.execute("INSERT INTO parts (item) VALUES ('nowhere')")

    @work.action(concurrency=None if release == 0 else 1)
    async def plain(ctx: ActionCtx, *, naps: int, fails: int, lane: str | None) -> None:
        await act(ctx, naps, fails, lane)

    @work.action(concurrency=1 if release == 0 else None)
    async def one(ctx: ActionCtx, *, naps: int, fails: int, lane: str | None) -> None:
        await act(ctx, naps, fails, lane)

    @work.action(pool="mail" if release == 0 else "post")
    async def mail(ctx: ActionCtx, *, naps: int, fails: int, lane: str | None) -> None:
        await act(ctx, naps, fails, lane)

    @work.action(pool="mail" if release == 0 else "post", concurrency=1)
    async def mail_one(ctx: ActionCtx, *, naps: int, fails: int, lane: str | None) -> None:
        await act(ctx, naps, fails, lane)

    @work.action(rate="2/10s")
    async def rated(ctx: ActionCtx, *, naps: int, fails: int, lane: str | None) -> None:
        world.begins("rate:w:rated")
        await act(ctx, naps, fails, lane)

    @work.action(rate="3/m", concurrency=2, pool="mail" if release == 0 else "post")
    async def all(ctx: ActionCtx, *, naps: int, fails: int, lane: str | None) -> None:
        world.begins("rate:w:all")
        await act(ctx, naps, fails, lane)

    return work


async def nobody(request: AuthRequest) -> None:
    await asyncio.sleep(0)


class LimitsMachine(RuleBasedStateMachine):
    """Whatever is scheduled, limited, paused, canceled, redeployed or killed: no limit is broken, nothing is left."""

    ids: Bundle[str] = Bundle("ids")

    @initialize(window=st.sampled_from([1, 2, 3, 1000]), slots=st.sampled_from([1, 2, 100]), asks=st.booleans())
    def start(self, window: int, slots: int, asks: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.world = World()
        options: dict[str, Any] = {"auth": nobody} if asks else {}
        self.app: App[Any] = App("unused.db", max_running_actions=slots, **options)
        self.app._window_max = window
        self.app.schema("CREATE TABLE items (name TEXT PRIMARY KEY)")
        self.app.schema(
            "CREATE TABLE parts (n INTEGER PRIMARY KEY,"
            " item TEXT NOT NULL REFERENCES items (name) DEFERRABLE INITIALLY DEFERRED)"
        )
        self.release = 0
        self.deploy()
        self.slots = slots
        self.limits = {"mail": 2}
        self.paused = False
        self.held: dict[str, int] = {}  # who has begun and waits for the next attempt, by lane
        self.harness = self.world.harness = Harness(self.app)
        self.run(self.harness.__aenter__())

    def deploy(self) -> None:
        from runtime.registry import Registry

        self.app._registry = Registry()
        self.app._registry.include(work_of(self.world, self.release))
        self.app._pools = {"mail" if self.release == 0 else "post": 2}

    @property
    def pool(self) -> str:
        return "mail" if self.release == 0 else "post"

    @property
    def actor(self) -> Any:
        return self.app._running().actor

    def run(self, work: Any) -> Any:
        async def settled() -> Any:
            result = await work
            self.watch()
            for _ in range(30):  # passes of the loop, in which what was asked for comes to rest by itself
                await asyncio.sleep(0)
            await self.harness.settle()
            return result

        return self.loop.run_until_complete(settled())

    def watch(self) -> None:
        """Judge each batch of picks as it is made."""
        dispatch = self.actor.dispatch
        if hasattr(dispatch, "watched"):
            return
        take = dispatch.take
        dispatch.watched = True

        def taking(now_us: int) -> list[RunDue]:
            taken: list[RunDue] = take(now_us)
            self.judge_picks(taken)
            return taken

        dispatch.take = taking

    def judge_picks(self, taken: list[RunDue]) -> None:
        # Room only shrinks while picking: what was picked could have been picked before, so a pick before one of
        # higher priority was a fair one.
        levels = [priority_of(unit.queue) for unit in taken]
        passed_over = sum(any(later > level for later in levels[at:]) for at, level in enumerate(levels))
        if passed_over > len(taken) // FAIR_PICK + 1:
            self.world.wrong.append(f"{passed_over} of {len(taken)} picks passed over a higher priority")
        by_queue: dict[str, list[Entry]] = defaultdict(list)
        for unit in taken:
            by_queue[unit.queue].append(unit.entry)
        for queue, entries in by_queue.items():
            if entries != sorted(set(entries)):
                self.world.wrong.append(f"{queue}: {entries} were picked")

    def call(self, job: dict[str, Any]) -> Call[Any]:
        args = {"naps": job["naps"], "fails": job["fails"], "lane": job["lane"]}
        options: dict[str, Any] = {"priority": job["priority"]}
        if job["lane"] is not None:
            options["lane"] = job["lane"]
        if job["retry"]:
            options["retry"] = AGAIN
        return Call(job["path"], args).after(job["delay"], **options)

    # ------------------------------------------------------------ rules

    @rule(target=ids, jobs=st.lists(JOBS, min_size=1, max_size=8))
    def schedule(self, jobs: list[dict[str, Any]]) -> Any:
        return multiple(*self.run(self.harness.scheduler.run_many([self.call(job) for job in jobs])))

    @rule(target=ids, job=JOBS, key=st.sampled_from(["k", "l"]))
    def replace(self, job: dict[str, Any], key: str) -> Any:
        options: dict[str, Any] = {"lane": job["lane"]} if job["lane"] is not None else {}
        args = {"naps": job["naps"], "fails": job["fails"], "lane": job["lane"]}
        work = self.harness.scheduler.run_after(
            job["delay"], job["path"], args, key=key, on_conflict="replace", priority=job["priority"], **options
        )
        try:
            return self.run(work)
        except KeyConflict:  # it runs
            return multiple()

    @rule(target=ids, first=JOBS, second=JOBS, gone=st.one_of(st.none(), ids), withdraw=st.booleans())
    def a_turn_that_falls_apart(
        self, first: dict[str, Any], second: dict[str, Any], gone: str | None, withdraw: bool
    ) -> Any:
        """One turn of several commits: the middle call is refused by the commit, and the others stand."""

        async def together() -> list[str]:
            scheduler = self.harness.scheduler
            calls = [
                scheduler.run_many([self.call(first)]),
                self.harness.call("w:orphan"),
                scheduler.run_many([self.call(second)]),
            ]
            if gone is not None:
                calls.insert(0 if withdraw else 3, scheduler.cancel(gone))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            return [job_id for answer in answers if isinstance(answer, list) for job_id in answer]

        return multiple(*self.run(together()))

    @rule(job_id=ids, running=st.booleans())
    def cancel(self, job_id: str, running: bool) -> None:
        self.run(self.harness.scheduler.cancel(job_id, running=running))

    @rule(job_id=ids, then_drop=st.booleans())
    def retry(self, job_id: str, then_drop: bool) -> None:
        with contextlib.suppress(KeyConflict):
            self.run(self.harness.scheduler.retry(job_id))
        job = self.run(self.harness.scheduler.get(job_id))
        # With a job its starts are forgotten: after a restart nobody would know of them.
        if then_drop and job is not None and job.path not in ("w:rated", "w:all"):
            self.run(self.harness.scheduler.drop(job_id))

    @rule(job_id=ids)
    def retry_all(self, job_id: str) -> None:
        self.run(self.harness.scheduler.list(state="failed").retry())

    @rule()
    def pause(self) -> None:
        self.paused = True
        self.run(self.harness.scheduler.pause("as asked"))

    @rule()
    def resume(self) -> None:
        self.paused = False
        self.run(self.harness.scheduler.resume())

    @rule(limit=st.sampled_from([0, 1, 2, 3, None]))
    def set_pool(self, limit: int | None) -> None:
        if limit is None:
            self.limits.pop(self.pool, None)
        else:
            self.limits[self.pool] = limit
        self.run(self.harness.scheduler.set_pool(self.pool, limit))

    @rule(seconds=st.sampled_from([1, 3, 10, 59, 3600]))
    def advance(self, seconds: int) -> None:
        self.run(self.harness.advance(seconds))

    @rule(seconds=st.sampled_from([-3600, -7, 2, 3600]))
    def step_the_clock(self, seconds: int) -> None:
        self.world.forward_us += max(seconds, 0) * SECOND
        if seconds < 0:
            self.world.before_step = Counter({gate: len(starts) for gate, starts in self.world.starts.items()})
        self.harness.clock.step(seconds * SECOND)
        self.run(asyncio.sleep(0))

    @rule(kill=st.booleans(), seconds=st.sampled_from([0, 1, 30]), redeploy=st.booleans())
    def restart(self, kill: bool, seconds: int, redeploy: bool) -> None:
        if redeploy:
            self.release = 1 - self.release
            self.deploy()
        self.held.clear()  # what was running may now wait for its next attempt
        self.run(self.harness.restart(kill=kill, down_for=seconds))

    # ------------------------------------------------------------ what must always hold

    @invariant()
    def nothing_went_wrong_on_the_way(self) -> None:
        if hasattr(self, "world"):
            assert self.world.wrong == [], self.world.wrong

    @invariant()
    def the_index_is_the_table(self) -> None:
        index = self.actor.dispatch.index
        assert not any(queue.startswith(PARKED) for queue in index.queues())
        table = defaultdict(list)
        for seq, queue, fire_at_us, *_ in self.rows("pending"):
            if not queue.startswith(PARKED):
                table[queue].append(Entry(fire_at_us, seq))
        assert set(table) <= set(index.queues())
        for queue in index.queues():
            window = index.window(queue)
            window._check()
            assert list(window) == sorted(entry for entry in table[queue] if entry <= window.horizon)

    @invariant()
    def of_a_lane_only_the_right_head_stands_in_a_queue(self) -> None:
        lanes = defaultdict(list)
        for row in [*self.rows("pending"), *self.rows("in_progress")]:
            if row[3] is not None:
                lanes[row[3]].append(row)
        held, self.held = self.held, {}
        for lane, rows in lanes.items():
            running = [row for row in rows if row[4] == "in_progress"]
            queued = [row for row in rows if row[4] == "pending" and not row[1].startswith(PARKED)]
            assert len(running) + len(queued) == 1, (lane, rows)
            (head,) = running or queued
            begun = [row for row in rows if row[5] > 0]
            if lane in held and any(row[0] == held[lane] for row in rows):
                assert head[0] == held[lane], f"{lane}: {head} has overtaken the one that has begun"
            elif not running and not begun:
                assert head == min(rows, key=lambda row: (row[2], row[0]))
            else:
                assert head in begun
            if head[5] > 0:
                self.held[lane] = head[0]

    def passes(self, queue: str) -> tuple[str, ...]:
        routing = self.app._started().routing
        return () if base_of(queue) == "mutation" else (SLOTS, *routing.passes.get(base_of(queue), ()))

    def limit(self, gate: str) -> int:
        if gate == SLOTS:
            return self.slots
        if gate.startswith("pool:"):
            return self.limits.get(gate.removeprefix("pool:"), 2)
        return {"fn:w:all": 2}.get(gate, 1)

    @invariant()
    def gates_count_what_runs(self) -> None:
        really: Counter[str] = Counter()
        for attempt in self.actor.attempts._running.values():
            really.update(self.passes(attempt.queue))
        assert sum(1 for _ in self.rows("in_progress")) == really[SLOTS]
        for name, gate in self.actor.dispatch.gates._gates.items():
            if not name.startswith("rate:"):
                assert gate.used == really[name], name
                assert gate.limit == self.limit(name), name
                if name.startswith("fn:") or name == SLOTS:
                    assert really[name] <= self.limit(name)
        assert self.actor.dispatch.gates.paused is self.paused

    def opens_at_us(self, queue: str, now_us: int) -> int | None:
        """Return when a queue may start something, by the words of the limits."""
        opens_us = now_us
        for name in self.passes(queue):
            gate = self.actor.dispatch.gates._gates[name]
            if not name.startswith("rate:"):
                if gate.used >= self.limit(name):
                    return None
                continue
            count, period_us = RATES[name]
            starts = self.world.starts[name]
            if 0 <= len(starts) - count < self.world.before_step[name]:
                return None  # a clock that was set back may hold it for longer
            if len(starts) >= count:
                opens_us = max(opens_us, now_us + starts[-count] + period_us - self.world.now_us())
        return opens_us

    @invariant()
    def nothing_that_may_run_waits_and_the_alarm_is_never_late(self) -> None:
        now_us = self.harness.clock.now_us()
        moments = []
        for seq, queue, fire_at_us, *_ in self.rows("pending"):
            if self.paused or queue.startswith(PARKED):
                continue
            opens_us = self.opens_at_us(queue, now_us)
            if opens_us is not None:
                moments.append(max(fire_at_us, opens_us))
                assert moments[-1] > now_us, f"{seq} in {queue} may run, and waits"
        if moments:
            armed_us = self.actor._alarm.armed_at_us
            assert armed_us is not None
            assert armed_us <= min(moments)

    def rows(self, state: str) -> list[tuple[Any, ...]]:
        sql = f"SELECT seq, queue, fire_at_us, lane, state, attempt FROM _scheduler_jobs WHERE state = '{state}'"
        return self.raw(sql)

    def raw(self, sql: str) -> list[tuple[Any, ...]]:
        connection = self.app._running().store._connection  # type: ignore[attr-defined]
        found: list[tuple[Any, ...]] = connection.raw.execute(sql + " /* test */").fetchall()
        return found

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        # Liveness: nobody stands in the way any more, so everything ends.
        self.paused = False
        self.run(self.harness.scheduler.resume())
        self.limits.pop(self.pool, None)
        self.run(self.harness.scheduler.set_pool(self.pool, None))
        self.run(self.harness.advance(days=1))
        self.nothing_went_wrong_on_the_way()
        assert [*self.rows("pending"), *self.rows("in_progress")] == []
        assert self.raw("PRAGMA integrity_check") == [("ok",)]
        self.loop.run_until_complete(self.harness.__aexit__(None, None, None))
        self.loop.close()


TestLimits = LimitsMachine.TestCase
TestLimits.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
