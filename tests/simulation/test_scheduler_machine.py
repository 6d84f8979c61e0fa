"""A state machine: the whole scheduler, on the real store, against a plain dictionary."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from actor_scheduler.index import EVERYTHING
from actor_scheduler.model import Entry
from runtime import ActionCtx, App, FunctionError, KeyConflict, MutationCtx, Namespace
from runtime.testing import Harness

SECOND = 1_000_000
DELAYS = st.sampled_from([0, 1, 2, 5, 60, 3600])
KEYS = st.sampled_from(["a", "b"])
ops = itertools.count(1)


def make_app(window: int, slots: int) -> App[Any]:
    app = App("unused.db", max_running_actions=slots)
    app._window_max = window
    app.schema("CREATE TABLE effects (n INTEGER PRIMARY KEY, op INTEGER NOT NULL, at_us INTEGER NOT NULL)")
    work = Namespace("work")
    app.include(work)

    async def write(ctx: MutationCtx, op: int) -> None:
        at_us = round(ctx.now.timestamp() * SECOND)
        await ctx.db.execute("INSERT INTO effects (op, at_us) VALUES (?, ?)", [op, at_us])

    @work.mutation
    async def effect(ctx: MutationCtx, *, op: int, fails: bool = False) -> int:
        await write(ctx, op)
        if fails:
            raise FunctionError("NO", "as asked")
        return op

    @work.action
    async def act(ctx: ActionCtx, *, op: int, naps: int = 0) -> int:
        if naps:
            await ctx.sleep(naps)
        await ctx.run_mutation(effect, op=op)
        return op

    @work.mutation
    async def fan_out(ctx: MutationCtx, *, children: list[tuple[int, int]], op: int, fails: bool) -> list[str]:
        await write(ctx, op)
        ids = [await ctx.scheduler.run_after(delay, "work:effect", {"op": child}) for child, delay in children]
        if fails:
            raise FunctionError("NO", "as asked")
        return ids

    @work.mutation
    async def nest(ctx: MutationCtx, *, children: list[tuple[int, int]], op: int, inner: int, fails: bool) -> list[str]:
        await write(ctx, op)
        try:
            return await ctx.run_mutation(fan_out, children=children, op=inner, fails=fails)
        except FunctionError:
            return []

    @work.mutation
    async def swap(ctx: MutationCtx, *, drop: str, op: int, fails: bool) -> bool:
        await write(ctx, op)
        gone = await ctx.scheduler.cancel(drop)
        if fails:
            raise FunctionError("NO", "as asked")
        return gone

    return app


@dataclass
class Expected:
    """What the model knows of one job."""

    op: int
    kind: str
    fire_at_us: int
    order: int
    fails: bool = False
    naps_us: int = 0
    key: str | None = None
    state: str = "pending"
    ends_at_us: int = 0
    runs: int = 0  # how often its effect must stand in the table


@dataclass
class Model:
    now_us: int = 0
    jobs: dict[str, Expected] = field(default_factory=dict)
    live_effects: list[int] = field(default_factory=list)

    def pass_time(self, to_us: int, slots: int) -> None:
        """Let everything happen up to a moment: starts in (fire_at, order), limited slots, ends on time."""
        while True:
            running = [job for job in self.jobs.values() if job.state == "in_progress"]
            pending = sorted(
                (job for job in self.jobs.values() if job.state == "pending"),
                key=lambda job: (job.fire_at_us, job.order),
            )
            startable = [job for job in pending if job.kind == "mutation" or len(running) < slots]
            moments = [max(job.fire_at_us, self.now_us) for job in startable[:1]]
            moments += [job.ends_at_us for job in running]
            if not moments or min(moments) > to_us:
                break
            self.now_us = max(self.now_us, min(moments))
            for job in running:
                if job.ends_at_us <= self.now_us:
                    job.state, job.runs = "success", 1
            if startable and startable[0].fire_at_us <= self.now_us:
                self._start(startable[0])
        self.now_us = to_us

    def _start(self, job: Expected) -> None:
        if job.kind == "action" and job.naps_us:
            job.state, job.ends_at_us = "in_progress", self.now_us + job.naps_us
        else:
            job.state, job.runs = ("failed", 0) if job.fails else ("success", 1)

    def crash(self) -> None:
        for job in self.jobs.values():
            if job.state == "in_progress":
                job.state = "failed"


class SchedulerMachine(RuleBasedStateMachine):
    """Schedule, cancel, mutate and fail, let time pass, crash and reopen; nothing lost, doubled, early or out of order."""

    ids: Bundle[str] = Bundle("ids")

    @initialize(window=st.sampled_from([1, 2, 3, 1000]), slots=st.sampled_from([1, 2, 100]))
    def start(self, window: int, slots: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.slots = slots
        self.harness = Harness(make_app(window, slots))
        self.run(self.harness.__aenter__())
        self.model = Model(now_us=self.harness.clock.now_us())
        self.order = itertools.count()

    def run(self, work: Any) -> Any:
        async def settled() -> Any:
            result = await work
            await self.harness.settle()
            return result

        return self.loop.run_until_complete(settled())

    def expect(self, job_id: str, **known: Any) -> str:
        self.model.jobs[job_id] = Expected(order=next(self.order), **known)
        return job_id

    def settle(self) -> None:
        self.model.pass_time(self.model.now_us, self.slots)

    # ------------------------------------------------------------ rules

    @rule(target=ids, delay=DELAYS, fails=st.booleans())
    def schedule_mutation(self, delay: int, fails: bool) -> str:
        op = next(ops)
        job_id = self.run(self.harness.scheduler.run_after(delay, "work:effect", {"op": op, "fails": fails}))
        self.expect(job_id, op=op, kind="mutation", fire_at_us=self.model.now_us + delay * SECOND, fails=fails)
        self.settle()
        return job_id

    @rule(target=ids, delay=DELAYS, naps=st.sampled_from([0, 1, 30]))
    def schedule_action(self, delay: int, naps: int) -> str:
        op = next(ops)
        job_id = self.run(self.harness.scheduler.run_after(delay, "work:act", {"op": op, "naps": naps}))
        fire_at_us = self.model.now_us + delay * SECOND
        self.expect(job_id, op=op, kind="action", fire_at_us=fire_at_us, naps_us=naps * SECOND)
        self.settle()
        return job_id

    @rule(target=ids, delays=st.lists(DELAYS, max_size=4), fails=st.booleans())
    def fan_out(self, delays: list[int], fails: bool) -> Any:
        op, children = next(ops), [(next(ops), delay) for delay in delays]
        args = {"op": op, "children": children, "fails": fails}
        try:
            made = self.run(self.harness.call("work:fan_out", args))
        except FunctionError:
            assert fails
            return multiple()
        assert not fails
        self.model.live_effects.append(op)
        for job_id, (child, delay) in zip(made, children, strict=True):
            self.expect(job_id, op=child, kind="mutation", fire_at_us=self.model.now_us + delay * SECOND)
        self.settle()
        return multiple(*made)

    @rule(target=ids, delays=st.lists(DELAYS, max_size=3), fails=st.booleans())
    def nest(self, delays: list[int], fails: bool) -> Any:
        op, inner, children = next(ops), next(ops), [(next(ops), delay) for delay in delays]
        args = {"op": op, "inner": inner, "children": children, "fails": fails}
        made = self.run(self.harness.call("work:nest", args))
        self.model.live_effects.append(op)
        if fails:
            assert made == []
            return multiple()
        self.model.live_effects.append(inner)
        for job_id, (child, delay) in zip(made, children, strict=True):
            self.expect(job_id, op=child, kind="mutation", fire_at_us=self.model.now_us + delay * SECOND)
        self.settle()
        return multiple(*made)

    @rule(job_id=ids)
    def cancel(self, job_id: str) -> None:
        canceled = self.run(self.harness.scheduler.cancel(job_id))
        assert canceled == self.model_cancel(job_id)
        self.settle()

    def model_cancel(self, job_id: str) -> bool:
        job = self.model.jobs[job_id]
        if job.state == "pending":
            job.state = "canceled"
        return job.state == "canceled"

    @rule(job_id=ids)
    def promote(self, job_id: str) -> None:
        job = self.model.jobs[job_id]
        assert self.run(self.harness.scheduler.promote(job_id)) == (job.state == "pending")
        if job.state == "pending":
            job.fire_at_us = min(job.fire_at_us, self.model.now_us)
        self.settle()

    @rule(kind=st.sampled_from(["effect", "act"]))
    def cancel_many(self, kind: str) -> None:
        wanted = "mutation" if kind == "effect" else "action"
        pending = [job for job in self.model.jobs.values() if (job.kind, job.state) == (wanted, "pending")]
        assert self.run(self.harness.scheduler.list(text=f"WORK:{kind}").cancel()) == len(pending)
        for job in pending:
            job.state = "canceled"
        self.settle()

    @rule(job_id=ids, fails=st.booleans())
    def cancel_in_a_mutation(self, job_id: str, fails: bool) -> None:
        op = next(ops)
        try:
            gone = self.run(self.harness.call("work:swap", {"drop": job_id, "op": op, "fails": fails}))
        except FunctionError:
            assert fails
            return
        assert gone == self.model_cancel(job_id)
        self.model.live_effects.append(op)
        self.settle()

    @rule(target=ids, key=KEYS, delay=DELAYS, on_conflict=st.sampled_from(["keep", "replace", "error"]))
    def schedule_under_a_key(self, key: str, delay: int, on_conflict: Any) -> Any:
        op = next(ops)
        holder = next(
            (i for i, job in self.model.jobs.items() if job.key == key and job.state in ("pending", "in_progress")),
            None,
        )
        try:
            job_id = self.run(
                self.harness.scheduler.run_after(delay, "work:effect", {"op": op}, key=key, on_conflict=on_conflict)
            )
        except KeyConflict:
            assert holder is not None
            assert on_conflict == "error"
            return multiple()
        if holder is not None and on_conflict == "keep":
            assert job_id == holder
            return multiple()
        if holder is not None:
            assert on_conflict == "replace"
            self.model.jobs[holder].state = "canceled"
        fire_at_us = self.model.now_us + delay * SECOND
        self.expect(job_id, op=op, kind="mutation", fire_at_us=fire_at_us, key=key)
        self.settle()
        return job_id

    @rule(seconds=st.sampled_from([0, 1, 3, 59, 3600]))
    def advance(self, seconds: int) -> None:
        self.run(self.harness.advance(seconds))
        self.model.pass_time(self.model.now_us + seconds * SECOND, self.slots)

    @rule(kill=st.booleans(), seconds=st.sampled_from([0, 1, 3600]))
    def restart(self, kill: bool, seconds: int) -> None:
        self.run(self.harness.restart(kill=kill, down_for=seconds))
        self.model.crash()
        self.model.now_us += seconds * SECOND
        self.settle()

    @rule(job_id=ids)
    def retry(self, job_id: str) -> None:
        job = self.model.jobs[job_id]
        try:
            retried = self.run(self.harness.scheduler.retry(job_id))
        except KeyConflict:
            assert job.key is not None
            return
        assert retried == (job.state == "failed")
        if retried:
            job.state, job.fire_at_us = "pending", self.model.now_us
            self.settle()

    # ------------------------------------------------------------ what must always hold

    @invariant()
    def states_are_those_of_the_model(self) -> None:
        async def states() -> dict[str, str]:
            return {job.id: job.state async for job in self.harness.scheduler.list()}

        assert self.run(states()) == {job_id: job.state for job_id, job in self.model.jobs.items()}

    @invariant()
    def effects_stand_exactly_when_and_as_often_as_they_must(self) -> None:
        rows = self.raw("SELECT op FROM effects ORDER BY n")
        expected = [job.op for job in self.model.jobs.values() for _ in range(job.runs)] + self.model.live_effects
        assert sorted(op for (op,) in rows) == sorted(expected)

    @invariant()
    def nothing_started_early(self) -> None:
        rows = self.raw(
            "SELECT seq FROM _scheduler_jobs WHERE (started_at_us < fire_at_us AND state <> 'pending')"
            " OR completed_at_us < started_at_us"
        )
        assert rows == []

    @invariant()
    def mutations_ran_in_order(self) -> None:
        rows = self.raw(
            "SELECT started_at_us, fire_at_us, seq FROM _scheduler_jobs JOIN effects ON op ="
            " json_extract(msgpack_to_json(args), '$.op') WHERE kind = 'mutation' AND state = 'success'"
            " AND attempt = 1 AND created_at_us < started_at_us ORDER BY n"
        )
        assert rows == sorted(rows)

    @invariant()
    def the_index_is_the_table_and_the_alarm_is_never_late(self) -> None:
        actor = self.harness.app._running().actor
        pending = self.raw("SELECT queue, fire_at_us, seq FROM _scheduler_jobs WHERE state = 'pending'")
        for queue in actor.dispatch.index.queues():
            window = actor.dispatch.index.window(queue)
            window._check()
            table = sorted(Entry(fire_at_us, seq) for name, fire_at_us, seq in pending if name == queue)
            assert list(window) == [entry for entry in table if entry <= window.horizon]
            assert window.complete or window.horizon < EVERYTHING
        now_us = self.harness.clock.now_us()
        open_ = {queue for queue, _, _ in pending if actor.dispatch.gates.opens_at_us(queue, now_us) is not None}
        waiting = [fire_at_us for queue, fire_at_us, _ in pending if queue in open_]
        if waiting:
            assert actor._alarm.armed_at_us is not None
            assert actor._alarm.armed_at_us <= min(waiting)

    def raw(self, sql: str) -> list[tuple[Any, ...]]:
        connection = self.harness.app._running().store._connection  # type: ignore[attr-defined]
        found: list[tuple[Any, ...]] = connection.raw.execute(sql + " /* test */").fetchall()
        return found

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        # Liveness: once time passes, every job that can end has ended.
        self.run(self.harness.advance(days=2))
        self.model.pass_time(self.model.now_us + 2 * 86_400 * SECOND, self.slots)
        self.states_are_those_of_the_model()
        self.effects_stand_exactly_when_and_as_often_as_they_must()
        assert self.raw("PRAGMA integrity_check") == [("ok",)]
        self.loop.run_until_complete(self.harness.__aexit__(None, None, None))
        self.loop.close()


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
